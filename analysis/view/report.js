// The report: hands each group of exhibits of the document to exhibits.js.
const report = JSON.parse(document.getElementById("document").textContent);
const plotly = async () => window.Plotly;
for (const [id, exhibits] of Object.entries(report.groups)) {
  const root = document.getElementById(id);
  if (root) mountExhibits(root, { plotly }).show({ exhibits, dark: report.dark });
}
