"""Names of sounds beyond the project's own classes: what a free trace or another benchmark's label may call a sound.

A row of ``SOUNDS`` is ``(name, family, phrases, actions)``: noun phrases in the singular, and verbs in the bare form;
plurals and verb forms are made by rule (``vocabulary``). The names follow the AudioSet ontology loosely. Rows with the
name of a class in ``mpar2.cafe.sound_classes`` add words to that class. ``PARENTS`` says which name is a more precise
kind of which; two kinds of one parent exclude each other (a man's voice is no woman's voice).

``WEAK`` phrases are everyday words that are seldom sounds ("step", "tone", "glass"): they count as a mention only
where the truth holds such a sound, so that reasoning prose is not taken for hallucination. ``GENERAL`` words name a
family of sounds and no event.
"""

from __future__ import annotations

__all__ = ["GENERAL", "MAKERS", "PARENTS", "SOUNDS", "WEAK"]

SOUNDS: tuple[tuple[str, str, str, str], ...] = (
    # more words for the project's classes
    ("dog bark", "animal", "dog|puppy|dog bark|bark|dog howl|canine", "bark|yap|woof|howl"),
    ("cat meow", "animal", "cat|kitten|cat meow|meow|purr|feline", "meow|purr"),
    ("cow moo", "animal", "cow|moo|bull|calf", "moo"),
    ("horse neigh", "animal", "horse|neigh|whinny", "neigh|whinny"),
    ("sheep bleat", "animal", "lamb|goat|bleat", "bleat|baa"),
    ("duck quack", "animal", "duck|goose|quack", "quack|honk"),
    ("bird song", "animal", "bird|songbird|bird song|birdsong|bird call|bird chirp|chirp|tweet", "chirp|tweet|twitter"),
    ("crickets", "animal", "cricket|insect|cicada|cricket chirr|chirr", "chirp|chirr"),
    ("speech", "human", "speech|voice|human voice|talk|conversation|dialogue|narration|spoken word"
     "|speaker", "speak|talk"),
    ("applause", "human", "applause|clap|hand clap|clapping audience|ovation", "clap|applaud"),
    ("footsteps", "human", "footstep|step|footfall", "walk"),
    ("hammering", "object", "hammer|hammer blow|hammer strike|hammering", "hammer|bang"),
    ("glass breaking", "object", "glass|breaking glass|broken glass|shattering glass|glass break"
     "|glass shatter", "shatter"),
    ("bell", "object", "bell|church bell|bell ring|bell toll|chime|bell stroke|hand bell", "toll|chime|ring"),
    ("telephone", "signal", "telephone|phone|telephone ring|phone ring|ringtone|cell phone|cellphone"
     "|mobile phone", "ring"),
    ("beep", "signal", "beep|bleep|tone|beep tone", "beep|bleep"),
    ("siren", "signal", "siren|police siren|ambulance siren|fire engine siren|fire truck siren|emergency siren"
     "|emergency vehicle|police car|ambulance|fire engine|fire truck", "wail"),
    ("static", "signal", "static|static noise|white noise|hiss|static hiss|radio static|burst of static", "hiss"),
    ("water", "nature", "water|running water|flowing water|stream|river|creek|brook|waterfall|water running"
     "|water flowing|pouring water|dripping water|water drop", "trickle|gurgle"),
    ("splash", "nature", "splash", "splash"),
    ("thunder", "nature", "thunder|thunderclap|thunderstorm|thunder rumble|clap of thunder|rumble of thunder", ""),
    ("fire", "nature", "fire|campfire|flame|bonfire|crackling fire|fireplace|crackle of fire", "crackle"),
    ("car engine", "vehicle", "car|engine|motor|automobile|vehicle|truck|car engine|engine running|car passing|traffic"
     "|bus|idling engine", "rev"),
    ("helicopter", "vehicle", "helicopter|chopper|helicopter rotor|rotor blade", ""),
    ("piano", "music", "piano|piano note|piano phrase|piano chord|piano music|piano melody|keyboard|grand piano", ""),
    ("guitar", "music", "guitar|guitar note|guitar phrase|guitar chord|acoustic guitar|electric guitar|guitar music"
     "|guitar strumming|strumming guitar|plucked string", "strum"),
    ("violin", "music", "violin|fiddle|cello|violin note|violin phrase|bowed string|string|viola|violin music", ""),
    ("trumpet", "music", "trumpet|trumpet note|trumpet phrase|brass|horn|trumpet music", ""),
    ("flute", "music", "flute|flute note|flute phrase|woodwind|recorder|piccolo|flute music", ""),
    ("organ", "music", "organ|church organ|pipe organ|organ note|organ phrase|organ chord|keyboard", ""),
    ("xylophone", "music", "xylophone|marimba|glockenspiel|vibraphone|xylophone note|xylophone phrase|mallet", ""),
    ("drums", "music", "drum|drum beat|drumbeat|drum roll|percussion|drum kit|drum set|snare|kick drum", "drum"),
    ("cymbal", "music", "cymbal|gong|crash cymbal|cymbal crash|cymbal hit|hi-hat", ""),
    # animals
    ("wolf howl", "animal", "wolf|coyote|wolf howl", "howl"),
    ("lion roar", "animal", "lion|tiger|lion roar|roar", "roar"),
    ("frog croak", "animal", "frog|toad|frog croak|croak", "croak|ribbit"),
    ("rooster crow", "animal", "rooster|cockerel|rooster crow|cock-a-doodle-doo", ""),
    ("chicken cluck", "animal", "chicken|hen|cluck", "cluck"),
    ("turkey gobble", "animal", "turkey|gobble", "gobble"),
    ("pig oink", "animal", "pig|oink|hog", "oink"),
    ("bee buzz", "animal", "bee|wasp|mosquito|bee buzz|buzzing insect|housefly", ""),
    ("owl hoot", "animal", "owl|owl hoot|hoot", "hoot"),
    ("crow caw", "animal", "raven|crow caw|caw", "caw"),
    ("pigeon coo", "animal", "pigeon|dove|coo", "coo"),
    ("seagull", "animal", "seagull|gull", ""),
    ("snake hiss", "animal", "snake|rattlesnake|hiss", "hiss"),
    ("monkey", "animal", "monkey|ape|chimpanzee", ""),
    ("elephant", "animal", "elephant", ""),
    ("whale song", "animal", "whale|whale song|dolphin", ""),
    ("donkey bray", "animal", "donkey|bray", "bray"),
    # people
    ("male speech", "human", "male speech|male voice|man's voice|male speaker|man|man's speech|male narrator|guy", ""),
    ("female speech", "human", "female speech|female voice|woman's voice|female speaker|woman|lady"
     "|female narrator", ""),
    ("child speech", "human", "child speech|child's voice|child|kid|boy|girl|children's voice", ""),
    ("laughter", "human", "laughter|laugh|giggle|chuckle", "laugh|giggle|chuckle"),
    ("crying", "human", "baby cry|crying baby|sob|crying|infant cry|baby", "cry|sob|weep"),
    ("cough", "human", "cough", "cough"),
    ("sneeze", "human", "sneeze", "sneeze"),
    ("snoring", "human", "snore", "snore"),
    ("breathing", "human", "breath|breathing|gasp|pant", "breathe|gasp|pant"),
    ("scream", "human", "scream|shout|yell|shriek", "scream|shout|yell|shriek"),
    ("whisper", "human", "whisper", "whisper"),
    ("singing", "human", "singing|singer|vocal|song lyrics|singing voice|vocalist", "sing"),
    ("choir", "music", "choir|chorus", ""),
    ("humming", "human", "humming|hum", "hum"),
    ("whistling", "human", "whistle", "whistle"),
    ("cheering", "human", "cheer|cheering crowd|crowd cheer", "cheer"),
    ("crowd", "human", "crowd|chatter|babble|crowd noise|murmur", "chatter"),
    ("rap", "human", "rap|rapper|rapping", ""),
    ("chewing", "human", "chewing", "chew|crunch"),
    ("burp", "human", "burp|hiccup|belch", "burp|belch"),
    # things
    ("door", "object", "door|door slam|door creak|slamming door|creaking door|closing door", "slam|creak"),
    ("knock", "object", "knock|door knock", "knock"),
    ("clock", "object", "clock|clock tick|ticking clock|tick-tock", "tick"),
    ("typing", "object", "typing|keyboard typing|typing on a keyboard|typewriter|keystroke|computer keyboard", ""),
    ("camera shutter", "object", "camera shutter|camera click|shutter click", ""),
    ("coins", "object", "coin|jingling coin|coin drop", ""),
    ("keys", "object", "jingling key|key jangling|rattling key", ""),
    ("paper", "object", "paper rustling|rustling paper|crumpling paper|page turn", ""),
    ("sawing", "object", "chainsaw|sawing|hand saw", ""),
    ("drill", "object", "drill|drilling|jackhammer|power tool", ""),
    ("vacuum cleaner", "object", "vacuum cleaner|vacuum|hoover", ""),
    ("blender", "object", "blender|food processor", ""),
    ("hair dryer", "object", "hair dryer", ""),
    ("sewing machine", "object", "sewing machine", ""),
    ("toilet flush", "object", "toilet flush|flushing toilet|toilet", ""),
    ("dishes", "object", "dish|clinking dish|cutlery|clinking glass|silverware", "clink"),
    ("frying", "object", "frying|sizzle|frying pan", "sizzle"),
    ("washing machine", "object", "washing machine|dishwasher", ""),
    ("gunshot", "object", "gunshot|gun|gunfire|shot being fired|rifle|pistol|machine gun", ""),
    ("explosion", "object", "explosion|blast|bomb|boom", "explode"),
    ("fireworks", "object", "firework|firecracker", ""),
    ("balloon", "object", "balloon|balloon pop", ""),
    # nature
    ("rain", "nature", "rain|rainfall|raindrop|heavy rain|rain on surface|rain fall", "rain"),
    ("wind", "nature", "wind|breeze|gust|gust of wind|wind howling|howling wind|wind blowing|blowing wind", "howl"),
    ("waves", "nature", "ocean wave|sea wave|wave crashing|crashing wave|surf|ocean|wave|sea", ""),
    ("hail", "nature", "hailstone", ""),
    ("leaves", "nature", "rustling leaf|leaf rustling|leaf", ""),
    ("earthquake", "nature", "earthquake|landslide|avalanche", ""),
    # vehicles
    ("train", "vehicle", "train|railway|subway|train whistle|train horn|locomotive|tram", ""),
    ("airplane", "vehicle", "airplane|aeroplane|plane|jet|aircraft|jet engine|propeller", ""),
    ("motorcycle", "vehicle", "motorcycle|motorbike|scooter|moped", ""),
    ("bicycle", "vehicle", "bicycle|bike", ""),
    ("boat", "vehicle", "boat|ship|motorboat", ""),
    ("tractor", "vehicle", "tractor", ""),
    ("lawn mower", "vehicle", "lawn mower|lawnmower", ""),
    ("car horn", "vehicle", "car horn|horn|honk|honking car|car honking", "honk"),
    ("tire squeal", "vehicle", "tire squeal|squealing tire|tire screech|screeching tire|skid|tyre screech", ""),
    # signals
    ("alarm", "signal", "alarm|fire alarm|smoke detector|alarm clock|car alarm|smoke alarm|buzzer", ""),
    ("doorbell", "signal", "doorbell|ding-dong|door bell", "ring"),
    ("busy signal", "signal", "busy signal|dial tone", ""),
    ("whistle blow", "signal", "referee whistle|police whistle|whistle blow|steam whistle", ""),
    # instruments
    ("saxophone", "music", "saxophone|sax|saxophone solo", ""),
    ("clarinet", "music", "clarinet", ""),
    ("oboe", "music", "oboe|bassoon", ""),
    ("trombone", "music", "trombone|tuba|french horn|trombone slide", ""),
    ("harp", "music", "harp", ""),
    ("accordion", "music", "accordion|concertina", ""),
    ("harmonica", "music", "harmonica", ""),
    ("banjo", "music", "banjo", ""),
    ("ukulele", "music", "ukulele|mandolin", ""),
    ("bass guitar", "music", "bass guitar|double bass|bass line|bassline|bass", ""),
    ("synthesizer", "music", "synthesizer|synth|synthesiser", ""),
    ("bagpipes", "music", "bagpipe", ""),
    ("tambourine", "music", "tambourine|maraca|shaker|castanet", ""),
    ("bongo", "music", "bongo|conga|tabla|djembe|timpani", ""),
    ("harpsichord", "music", "harpsichord", ""),
    ("sitar", "music", "sitar", ""),
    ("didgeridoo", "music", "didgeridoo", ""),
    ("orchestra", "music", "orchestra|symphony|string section|string quartet|ensemble", ""),
    ("beatboxing", "music", "beatboxing|beatbox", ""),
    ("music box", "music", "music box", ""),
    ("throat singing", "human", "throat singing|overtone singing", ""),
)  # fmt: skip

#: more precise name -> what it is a kind of
PARENTS: dict[str, str] = {
    "male speech": "speech",
    "female speech": "speech",
    "child speech": "speech",
    "throat singing": "singing",
    "rooster crow": "chicken cluck",
}

#: Which names are makers of sounds, and thus contradict another maker's action ("a cat barks").
MAKERS: dict[str, str] = {
    "dog bark": "dog|puppy",
    "cat meow": "cat|kitten",
    "cow moo": "cow|bull",
    "horse neigh": "horse",
    "sheep bleat": "sheep|lamb|goat",
    "duck quack": "duck|goose",
    "pig oink": "pig",
    "frog croak": "frog",
    "wolf howl": "wolf|coyote",
    "lion roar": "lion|tiger",
    "rooster crow": "rooster",
    "chicken cluck": "chicken|hen",
    "owl hoot": "owl",
}

_WEAK_WORDS = (
    "step|tone|string|stream|key|mallet|crash|speaker|recorder|wave|leaf|bass|boom|shot|chorus|ensemble|burning|burn"
    "|walk|walked|walking|hum|rap|knock|tick|river|sea|surf|jet|dish|paper|ship|bull|calf|ring|rang|static|pant|pants"
    "|bang|banging|talk|vocal|break|rev|slam|crunch|blast|ape|hen|flame"
)
WEAK: frozenset[str] = frozenset(_WEAK_WORDS.split("|"))

#: words that name a family -> the family
GENERAL: dict[str, str] = {
    "animal": "animal",
    "animal sound": "animal",
    "animal noise": "animal",
    "animal call": "animal",
    "animal vocalization": "animal",
    "creature": "animal",
    "human sound": "human",
    "human activity": "human",
    "human voice": "human",
    "vehicle": "vehicle",
    "vehicle sound": "vehicle",
    "music": "music",
    "musical instrument": "music",
    "instrument": "music",
    "melody": "music",
    "tune": "music",
    "string instrument": "music",
    "instrumental": "music",
    "nature sound": "nature",
    "natural sound": "nature",
    "sound of nature": "nature",
    "electronic sound": "signal",
}
