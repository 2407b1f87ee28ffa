"""Names of sounds beyond the project's own classes, for free traces and for the labels of other benchmarks.

A row of ``SOUNDS`` is ``(name, family, phrases, actions)``: noun phrases in the singular, and verbs in the base form.
``vocabulary`` derives plurals and verb forms by rule. The names follow the AudioSet ontology loosely. Rows with the
name of a class in ``mpar2.cafe.sound_classes`` add words to that class. ``PARENTS`` maps a more precise name to its
parent; two kinds of one parent exclude each other (a male voice is no female voice).

``WEAK`` phrases are everyday words that seldom name a sound ("step", "tone", "glass"). They count as a mention only
where the truth has such a sound, so that prose of a reasoning is not counted as hallucination. ``GENERAL`` words name a
family of sounds and no event.
"""

from __future__ import annotations

__all__ = ["GENERAL", "MAKERS", "PARENTS", "PARTS", "SOUNDS", "SOURCE_SOUNDS", "WEAK", "WEAK_VERBS"]

#: names of people by role; weak words, which count as a sound with a verb of a human action
PEOPLE = (
    "passenger|driver|farmer|parent|coworker|colleague|owner|neighbour|neighbor|student|pupil|teacher|lecturer|professor"
    "|politician|president|comedian|actor|actress|host|hostess|guest|caller|customer|client|waiter|waitress|cashier|clerk"
    "|photographer|referee|player|athlete|worker|builder|carpenter|mechanic|officer|policeman|soldier|pilot|captain|doctor"
    "|nurse|patient|priest|pastor|preacher|monk|nun|reader|storyteller|moderator|instructor|trainer|tourist|visitor"
    "|pedestrian|passer-by|shopper|vendor|salesman|auctioneer|teenager|friend|couple|husband|wife|brother|sister|son"
    "|daughter|grandma|grandpa|boss|manager|employee|chef|baker|bartender|barista|dj|emcee|anchor|newsreader"
    "|correspondent|interviewee|podcaster|operator|dispatcher|sailor|fisherman|hunter|bystander|onlooker|listener"
    "|participant|protester|performer|entertainer|magician|lawyer|judge|witness|scientist|expert|leader|member|stranger"
    "|pair of people|group of people|roommate|classmate|boyfriend|girlfriend|uncle|aunt|fellow|bloke|elder|rider|shepherd|heckler|handyman|repairman|firefighter|plumber"  # noqa: E501
    "|craftsman|musician|servant|assistant|secretary|receptionist|detective|burglar|thief|villager|camper|hiker|jogger|runner"
    "|dancer|fisher|gardener|butcher|tailor|barber|librarian|astronaut|scout|rower|swimmer|skier|golfer|goalkeeper|fighter|boxer|warrior|knight|tamer|coach|lifeguard|flight attendant|attendant|diver|writer|dentist|adult|chairman|chairwoman|stewardess|steward|yodeler|hairdresser|sleeper|beekeeper|vet|woodcutter|lumberjack|spokesman|spokeswoman|journalist|interrogator|inspector|conductor|person|someone|somebody"  # noqa: E501
    "|bandleader|umpire|imam|rabbi|muezzin|shopkeeper|congregation|guide|tour guide|museum guide|coachman|mc|toastmaster|inmate|prisoner|sergeant|commander|king|queen"  # noqa: E501
)

SOUNDS: tuple[tuple[str, str, str, str], ...] = (
    # more words for the project's classes
    ("dog bark", "animal", "bow-wow|yip|dog|puppy|dog bark|bark|dog howl|canine|hound|doggy|dog growl|growl|whimper|terrier|dogs barking", "bark|yap|woof|howl|growl|whine|whimper|yelp"),  # noqa: E501
    ("cat meow", "animal", "caterwaul|cat|kitten|cat meow|meow|feline|meowing cat", "meow|yowl|hiss|mew"),
    ("cow moo", "animal", "cow|moo|bull|calf|cattle|heifer", "moo|bellow"),
    ("horse neigh", "animal", "zebra|mule|horse|neigh|whinny|pony|mare|stallion|horse snort", "neigh|whinny|snort"),
    ("sheep bleat", "animal", "lamb|goat|bleat|ram|ewe|kid goat|baa", "bleat|baa"),
    ("duck quack", "animal", "duck|quack", "quack|honk"),
    ("bird song", "animal", "magpie|swallow|oriole|chickadee|rooks|lark|finches|songbirds|bird|songbird|bird song|birdsong|bird call|bird chirp|chirp|tweet|birdcall|sparrow|robin|warbler|finch|blackbird|nightingale|thrush|trill|bird sound|canary|chirping|twittering", "chirp|tweet|twitter|trill|warble|whistle"),  # noqa: E501
    ("crickets", "animal", "cricket|insect|cicada|cricket chirr|chirr|cricket chirp|grasshopper|katydid|cricket sound", "chirp|chirr|stridulate"),  # noqa: E501
    ("speech", "human", "speech|voice|human voice|talk|conversation|dialogue|narration|spoken word|speaker|narrator|announcer|commentator|reporter|presenter|radio host|speech sound|vocalization|announcement|loudspeaker announcement|public address|argument|quarrel|spoken voice|spokesperson|interviewer|lecture|interview|commentary|speaking voice|speeches|monologue|comment|remark|sermon|prayer|greeting|podcast|audiobook|news broadcast|news report|weather report|weather forecast|auction|" + PEOPLE, "speak|talk|chat|converse|narrate"),  # noqa: E501
    ("applause", "human", "applause|clap|hand clap|clapping audience|ovation|handclap|applauding audience|round of applause|clapping hands|hands|audience", "clap|applaud"),  # noqa: E501
    ("footsteps", "human", "bare feet|patter of feet|stomping feet|shuffling feet|shoe squeak|sneaker|people running|people are running|people marching|footstep|step|footfall|heel|boot|shoe|stride|running footstep|walking footstep", "walk|crunch|stomp|jog|tread"),  # noqa: E501
    ("hammering", "object", "hammer|hammer blow|hammer strike|hammering|mallet|nailing|pounding", "hammer|bang|pound"),
    ("glass breaking", "object", "glass|breaking glass|broken glass|shattering glass|glass break|glass shatter|shattering|smash|smashing glass|window breaking|broken window|glass smash|glass shard|window|windowpane", "shatter|smash|break"),  # noqa: E501
    ("bell", "object", "bell|church bell|bell ring|bell toll|chime|bell stroke|hand bell|handbell|cowbell|wind chime|tubular bell|jingle bell|sleigh bell", "toll|chime|ring|clang|jingle|tinkle|peal"),  # noqa: E501
    ("telephone", "signal", "telephone|phone|telephone ring|phone ring|ringtone|cell phone|cellphone|mobile phone|landline|telephone bell|smartphone|mobile|phone call|cell", "ring|vibrate|buzz"),  # noqa: E501
    ("beep", "signal", "beep|bleep|chime|notification|error sound|tone|beep tone|beeping|electronic tone|chirp|sine tone|signal tone|ping|microwave beep", "beep|bleep|ping"),  # noqa: E501
    ("siren", "signal", "siren|police siren|ambulance siren|fire engine siren|fire truck siren|emergency siren|emergency vehicle|police car|ambulance|fire engine|fire truck|sirens|wailing", "wail|blare|yelp"),  # noqa: E501
    ("static", "signal", "static|static noise|white noise|hiss|static hiss|radio static|burst of static|radio noise|pink noise|interference|crackle", "hiss|crackle"),  # noqa: E501
    ("water", "nature", "water|running water|flowing water|stream|river|creek|brook|waterfall|water running|water flowing|pouring water|dripping water|water drop|trickle|splashing water|gurgle|gurgling|babbling brook|rapids|water splash", "trickle|gurgle|flow|drip|burble|babble|lap|murmur"),  # noqa: E501
    ("splash", "nature", "splash|plunge|dive|swimmer|swimming", "splash|plunge"),
    ("thunder", "nature", "thunder|thunderclap|thunderstorm|thunder rumble|clap of thunder|rumble of thunder|thunder crack|thunder roll|lightning strike|storm", "rumble"),  # noqa: E501
    ("fire", "nature", "fire|campfire|flame|bonfire|crackling fire|fireplace|crackle of fire|crackling|blaze|inferno|fire crackle|burning wood|wood fire", "crackle|burn|roar"),  # noqa: E501
    ("car engine", "vehicle", "car|engine|motor|automobile|vehicle|car engine|engine running|car passing|traffic|traffic noise|road noise|idling engine|automobile engine|sedan|vehicle engine|ignition|drive by|passing car|passing vehicle", "rev|idle|sputter"),  # noqa: E501
    ("helicopter", "vehicle", "helicopter|chopper|helicopter rotor|rotor|rotor blade|propeller|chopper blade|blade|engine|aircraft|copter", "whir|whirr|hover"),  # noqa: E501
    ("piano", "music", "piano|piano note|piano phrase|piano chord|piano music|piano melody|keyboard|grand piano|pianist|upright piano|piano key|electric piano|rhodes", ""),  # noqa: E501
    ("guitar", "music", "guitar|guitar note|guitar phrase|guitar chord|acoustic guitar|guitar music|guitar strumming|strumming guitar|plucked string|guitarist|strum|strumming|plucking|guitar picking", "strum|pluck"),  # noqa: E501
    ("violin", "music", "pizzicato|violin|fiddle|violin note|violin phrase|bowed string|string|violin music|violinist", ""),  # noqa: E501
    ("trumpet", "music", "trumpet|trumpet note|trumpet phrase|brass|horn|trumpet music|trumpeter|fanfare|bugle|cornet|flugelhorn", "blare"),  # noqa: E501
    ("flute", "music", "flute|flute note|flute phrase|woodwind|recorder|piccolo|flute music|flutist|pan flute|pipe", ""),  # noqa: E501
    ("organ", "music", "organ|church organ|pipe organ|organ note|organ phrase|organ chord|keyboard", ""),
    ("xylophone", "music", "xylophone|marimba|glockenspiel|vibraphone|xylophone note|xylophone phrase|mallet", ""),
    ("drums", "music", "taiko|cajon|hand drum|frame drum|rimshot|drum loop|drum|drum beat|drumbeat|drum roll|percussion|drum kit|drum set|snare|kick drum|drummer|drum pattern|drum fill|beat|drum machine|drumming|tom-tom|bass drum|ride cymbal|hi-hat", "drum|beat|pound"),  # noqa: E501
    ("cymbal", "music", "cymbal|gong|crash cymbal|cymbal crash|cymbal hit", ""),
    # animals
    ("wolf howl", "animal", "wolf|coyote|wolf howl|wolf pack", "howl"),
    ("lion roar", "animal", "lion|tiger|lion roar|roar|big cat|panther|leopard", "roar|growl"),
    ("frog croak", "animal", "frog|toad|frog croak|croak|bullfrog|tree frog", "croak|ribbit|peep"),
    ("rooster crow", "animal", "rooster|cockerel|rooster crow|cock-a-doodle-doo|cock crow|crowing", "crow"),
    ("chicken cluck", "animal", "chicken|hen|cluck|clucking chicken|poultry", "cluck|squawk"),
    ("turkey gobble", "animal", "turkey|gobble|turkey call", "gobble"),
    ("pig oink", "animal", "pig|oink|hog|grunt|piglet|swine|boar", "oink|grunt|squeal|snort"),
    ("bee buzz", "animal", "insect|bee|wasp|mosquito|bee buzz|buzzing insect|housefly|bumblebee|hornet|swarm", "buzz"),
    ("owl hoot", "animal", "owl|owl hoot|hoot|hooting owl", "hoot"),
    ("crow caw", "animal", "raven|crow caw|caw|crow", "caw|squawk"),
    ("pigeon coo", "animal", "pigeon|dove|coo", "coo"),
    ("seagull", "animal", "seagull|gull|gull cry|seabird", "cry|squawk|screech"),
    ("snake hiss", "animal", "snake|rattlesnake|hiss|rattle|serpent", "hiss|rattle"),
    ("monkey", "animal", "monkey|ape|chimpanzee|gorilla|baboon", "screech|chatter"),
    ("elephant", "animal", "elephant|elephant trumpet", ""),
    ("whale song", "animal", "whale|whale song|dolphin", ""),
    ("donkey bray", "animal", "donkey|bray", "bray"),
    # people
    ("male speech", "human", "male speech|male voice|man's voice|male speaker|man|man's speech|male narrator|guy|gentleman|male commentator|father|grandfather", ""),  # noqa: E501
    ("female speech", "human", "female speech|female voice|woman's voice|female speaker|woman|lady|female narrator|mother|grandmother|female commentator", ""),  # noqa: E501
    ("child speech", "human", "child speech|child's voice|child|kid|boy|girl|children's voice|toddler|children playing|children|kids", ""),  # noqa: E501
    ("laughter", "human", "snigger|guffaw|laughter|laugh|giggle|chuckle|laughing|laughing audience|chuckling|giggling|laughing crowd|canned laughter|laugh track", "laugh|giggle|chuckle|cackle|snicker"),  # noqa: E501
    ("crying", "human", "baby cry|crying baby|sob|crying|infant cry|baby|infant|toddler|newborn", "cry|sob|weep|wail|whimper|bawl"),  # noqa: E501
    ("cough", "human", "cough|throat clearing|coughing fit|clearing of the throat", "cough"),
    ("sneeze", "human", "sneeze|sneezing", "sneeze"),
    ("snoring", "human", "snore", "snore"),
    ("breathing", "human", "breath|breathing|gasp|pant|inhale|exhale|heavy breathing|wheeze|sniff|sniffle|respiration", "breathe|gasp|pant|inhale|exhale|wheeze|sniff"),  # noqa: E501
    ("scream", "human", "scream|shriek", "scream|shriek"),
    ("shouting", "human", "shout|yell|shouting|shouting voice|yelling|heckling|heckle", "shout|yell|holler|bellow"),
    ("whisper", "human", "whisper|voice", "whisper"),
    ("singing", "human", "backing vocals|chant|chanting|mantra|a capella|opera singer|soprano|baritone|tenor|mezzo-soprano|crooner|hymn|singing|singer|vocal|song lyrics|singing voice|vocalist|voice|human voice|female voice|male voice|woman's voice|man's voice|child's voice|female singing|male singing", "sing|chant"),  # noqa: E501
    ("choir", "music", "chant|gregorian chant|choir|chorus|choral music|choral singing|group singing|children's choir|boys choir|men's choir|women's choir", ""),  # noqa: E501
    ("humming", "human", "humming|hum", "hum"),
    ("whistling", "human", "whistle|whistling tune", "whistle"),
    ("cheering", "human", "cheer|fan|cheering crowd|crowd cheer|spectator|crowd cheering|people cheering|fan cheering|roar of the crowd|crowd roar|roaring crowd", "cheer|roar"),  # noqa: E501
    ("crowd", "human", "crowd|fan|audience|chatter|babble|crowd noise|murmur|people talking|chattering crowd|crowd murmur|hubbub", "chatter|chat|murmur"),  # noqa: E501
    ("rap", "human", "rap|rapper|rapping", ""),
    ("chewing", "human", "chewing", "chew|crunch"),
    ("burp", "human", "burp|hiccup|belch", "burp|belch"),
    # things
    ("door", "object", "door|door slam|door creak|slamming door|creaking door|closing door|gate|door opening|door shutting|door hinge|squeaky door|wooden door|cupboard|drawer", "slam|creak|squeak"),  # noqa: E501
    ("knocking", "object", "knock|door knock|rap|rapping|tapping", "knock|rap|tap|pound"),
    ("clock", "object", "clock|clock tick|ticking clock|tick-tock|clock face|wristwatch|stopwatch|pendulum", "tick"),
    ("typing", "object", "typing|keyboard typing|typing on a keyboard|typewriter|keystroke|computer keyboard|keypress|key press|keys being pressed|keyboard clack|typist|computer typing|keyboard", "clack"),  # noqa: E501
    ("camera shutter", "object", "camera shutter|camera click|shutter click|shutter|camera", "click"),
    ("coins", "object", "coin|jingling coin|coin drop|loose change|jingling change", "jingle|clink|rattle"),
    ("keys", "object", "jingling key|key jangling|rattling key|keychain|bunch of keys", "jingle|jangle|rattle"),
    ("paper", "object", "paper rustling|rustling paper|crumpling paper|page turn|page|page turning|newspaper|paper tearing|tearing paper|paper crumple|envelope", "rustle|crumple|crinkle"),  # noqa: E501
    ("sawing", "object", "chainsaw|sawing|hand saw|saw|hacksaw|saw blade|chain saw", "saw"),
    ("drill", "object", "drill|drilling|jackhammer|power tool|motor|drill motor|electric drill|power drill", "whir|whirr|buzz|drill"),  # noqa: E501
    ("vacuum cleaner", "object", "vacuum cleaner|vacuum|hoover|engine|motor|vacuuming", "whir|whirr|hum|drone"),
    ("blender", "object", "blender|food processor|motor|mixer", "whir|whirr|blend"),
    ("hair dryer", "object", "hair dryer|hairdryer|blow dryer|motor", "whir|whirr|hum|blow"),
    ("sewing machine", "object", "sewing machine", ""),
    ("toilet flush", "object", "toilet flush|flushing toilet|toilet|flush|flushing", "flush"),
    ("dishes", "object", "dish|clinking dish|cutlery|clinking glass|silverware|plate|glass clink|clink|cup|crockery|pot|pan|clattering dish|tableware", "clink|clatter|rattle"),  # noqa: E501
    ("frying", "object", "frying|sizzle|frying pan|sizzling|bacon|frying food|stir fry|cooking", "sizzle|fry"),
    ("washing machine", "object", "washing machine|dishwasher|motor|washer", "whir|rumble|hum"),
    ("gunshot", "object", "fusillade|cannon|musket|volley of shots|gunshot|gun|gunfire|shot|shot being fired|rifle|pistol|machine gun|shooting|shotgun|firearm|bang", "bang"),  # noqa: E501
    ("explosion", "object", "artillery|grenade|dynamite|explosion|blast|bomb|boom|detonation|bomb blast|burst", "explode|detonate|blast|boom|bang"),  # noqa: E501
    ("fireworks", "object", "rocket|firework|firecracker|sparkler|explosion|bang|pop|boom|blast|pyrotechnic", "crackle|bang|pop|explode|whistle"),  # noqa: E501
    ("balloon", "object", "balloon|balloon pop", ""),
    # nature
    ("rain", "nature", "rain|rainfall|raindrop|heavy rain|rain on surface|rain fall|drizzle|downpour|rainstorm|rain drop|sleet", "rain|patter|drizzle"),  # noqa: E501
    ("wind", "nature", "wind|breeze|gust|gust of wind|wind howling|howling wind|wind blowing|blowing wind|wind gust|wind noise|strong wind|airflow", "howl|whistle|blow|whoosh"),  # noqa: E501
    ("waves", "nature", "lapping water|ocean wave|sea wave|wave crashing|crashing wave|surf|ocean|wave|sea|breaking wave|sea sound|ocean sound|shoreline|tide|swell", "crash|lap"),  # noqa: E501
    ("hail", "nature", "hailstone", ""),
    ("leaves", "nature", "rustling leaf|leaf rustling|leaf|foliage|rustle|twig", "rustle|crackle"),
    ("earthquake", "nature", "earthquake|landslide|avalanche", ""),
    # vehicles
    ("train", "vehicle", "metro|underground train|subway train|monorail|wheel|train|railway|subway|train whistle|train horn|locomotive|tram|railroad|train passing|train wheel|freight train|steam engine|engine", "chug|rumble|hiss"),  # noqa: E501
    ("airplane", "vehicle", "airplane|aeroplane|plane|jet|aircraft|jet engine|propeller|engine|propeller plane|airliner|biplane", "drone|roar"),  # noqa: E501
    ("motorcycle", "vehicle", "motorcycle|motorbike|bike|scooter|moped|engine|motor|motorcycle engine|dirt bike", "rev|roar|sputter"),  # noqa: E501
    ("bicycle", "vehicle", "wheel|bicycle|bike|cyclist|bicycle wheel|pedal", ""),
    ("boat", "vehicle", "rowboat|canoe|kayak|sailboat|ferry|yacht|boat|ship|motorboat|engine|motor|speedboat|boat engine|vessel", "sputter"),  # noqa: E501
    ("tractor", "vehicle", "tractor|engine|motor", ""),
    ("lawn mower", "vehicle", "lawn mower|lawnmower|engine|motor|mower|mowing", ""),
    ("car horn", "vehicle", "car horn|horn|honk|honking car|car honking|truck horn|vehicle horn|honking|beeping horn|hooter", "honk|blare|toot"),  # noqa: E501
    ("tire squeal", "vehicle", "tire squeal|squealing tire|tire screech|screeching tire|skid|tyre screech|squeal|screech|tyre|tire", "squeal|screech|skid"),  # noqa: E501
    # signals
    ("alarm", "signal", "egg timer|kitchen timer|timer|alarm|fire alarm|smoke detector|alarm clock|car alarm|smoke alarm|alarm bell|alarm sound|burglar alarm|security alarm|intruder alarm|buzzer", "|blare|buzz|ring|wail"),  # noqa: E501
    ("doorbell", "signal", "doorbell|ding-dong|door bell|chime", "ring|chime"),
    ("busy signal", "signal", "busy signal|dial tone", ""),
    ("whistle blow", "signal", "referee whistle|police whistle|whistle blow|steam whistle|whistle|referee's whistle|sports whistle", ""),  # noqa: E501
    # instruments
    ("saxophone", "music", "woodwind|saxophone|alto saxophone|tenor saxophone|baritone saxophone|soprano saxophone|alto sax|tenor sax|baritone sax|soprano sax|sax|saxophone solo|saxophonist", ""),  # noqa: E501
    ("clarinet", "music", "clarinet|woodwind", ""),
    ("oboe", "music", "oboe|woodwind", ""),
    ("trombone", "music", "brass|trombone|trombone slide", ""),
    ("harp", "music", "harp", ""),
    ("accordion", "music", "accordion|concertina", ""),
    ("harmonica", "music", "harmonica|melodica", ""),
    ("banjo", "music", "banjo", ""),
    ("ukulele", "music", "ukulele", ""),
    ("bass guitar", "music", "contrabass|electric bass|upright bass|bass guitar|double bass|bass line|bassline|bass|bass player|bassist|low bass", ""),  # noqa: E501
    ("synthesizer", "music", "vocoder|keytar|synthesizer|synth|synthesiser|electronic music|synth pad|techno|electronic beat", ""),  # noqa: E501
    ("bagpipes", "music", "bagpipe", ""),
    ("tambourine", "music", "tambourine|maraca|shaker|castanet", ""),
    ("bongo", "music", "bongo|conga|djembe", ""),
    ("harpsichord", "music", "harpsichord", ""),
    ("sitar", "music", "sitar", ""),
    ("didgeridoo", "music", "didgeridoo", ""),
    ("orchestra", "music", "orchestra|symphony|string section|string quartet|ensemble|orchestral music|string ensemble|symphonic music|orchestral piece", ""),  # noqa: E501
    ("beatboxing", "music", "beatboxing|beatbox", ""),
    ("music box", "music", "music box", ""),
    # common names of common sounds
    ("cello", "music", "cello|cellist|violoncello|string|strings", ""),
    ("viola", "music", "viola|string", ""),
    ("tuba", "music", "tuba|brass", ""),
    ("french horn", "music", "french horn|brass", ""),
    ("bassoon", "music", "bassoon|woodwind", ""),
    ("hi-hat", "music", "hi-hat|hihat|high hat", ""),
    ("timpani", "music", "timpani|kettledrum", ""),
    ("triangle", "music", "triangle chime|musical triangle", ""),
    ("tabla", "music", "tabla", ""),
    ("mandolin", "music", "mandolin", ""),
    ("zither", "music", "zither|koto|guzheng|dulcimer", ""),
    ("electric guitar", "music", "electric guitar|guitar solo|guitar riff|distorted guitar|guitar", ""),
    ("band", "music", "brass band|rock band|marching band|jazz band", ""),
    ("metronome", "object", "metronome", ""),
    ("kettle", "object", "kettle|boiling water|tea kettle|whistle|kettle whistle|steaming kettle|boiling kettle", "whistle|hiss"),  # noqa: E501
    ("microwave", "object", "microwave|microwave oven|microwave hum", "hum|whir"),
    ("fan", "object", "electric fan|ceiling fan|air conditioner|air conditioning|ventilation|fridge|refrigerator|fan noise|motor|hvac|exhaust fan", "whir|whirr|hum"),  # noqa: E501
    ("printer", "object", "scanner|fax|copier|printer|photocopier|fax machine|printing", "whir|whirr"),
    ("television", "object", "television|tv set|tv show|tv|tv program|tv broadcast", ""),
    ("radio", "object", "radio|radio broadcast|radio transmission|walkie-talkie|radio voice|radio chatter", ""),
    ("mouse click", "object", "mouse click|click of a mouse|clicking mouse|mouse clicking|click|mouse", "click"),
    ("click", "object", "turn signal|indicator|blinker|pen click|clicking sound|clicking noise|switch|light switch|clicker|click", "click"),  # noqa: E501
    ("scissors", "object", "scissors|snip|shears", "snip"),
    ("zipper", "object", "zipper|zip", "zip"),
    ("faucet", "nature", "faucet|tap|shower|sink|tap water|water tap|bathtub|water running", ""),
    ("fountain", "nature", "fountain", ""),
    ("basketball bounce", "object", "basketball|basketball bounce|bouncing ball|ball bouncing|basketball dribbling|ball", "dribble|bounce"),  # noqa: E501
    ("ball", "object", "tennis ball|ping-pong ball|table tennis|bowling ball|ball|tennis|ping-pong|racket", "bounce"),
    ("brakes", "vehicle", "brake|squealing brake|air brake|brake squeal|squeal|screech|hiss", "squeal|screech"),
    ("bus", "vehicle", "bus|engine|diesel engine", "hiss"),
    ("truck", "vehicle", "wheel|van|minivan|delivery van|ice-cream van|truck|lorry|truck engine|garbage truck|engine|pickup truck|semi-truck|diesel engine", "rumble|hiss"),  # noqa: E501
    ("race car", "vehicle", "race car|racing car|engine|formula one car", "rev|roar"),
    ("skateboard", "vehicle", "wheel|skateboard|roller skate|skating|skater|skate", ""),
    ("rocket", "vehicle", "rocket|missile", ""),
    ("spaceship", "vehicle", "spaceship", ""),
    ("horse hooves", "animal", "hoof|hoofbeat|clip-clop|galloping|galloping horse|horse galloping|hooves|horse trotting|trot|horse", "gallop|clop|trot"),  # noqa: E501
    ("parrot", "animal", "parrot|parakeet|parrot squawk|cockatoo|macaw", "squawk"),
    ("woodpecker", "animal", "woodpecker", ""),
    ("cuckoo", "animal", "cuckoo", ""),
    ("goose", "animal", "goose|geese|goose honk", "honk"),
    ("mouse squeak", "animal", "rat|squeaking mouse", ""),
    ("squirrel", "animal", "squirrel", ""),
    ("fox", "animal", "fox|fox bark", ""),
    ("bear", "animal", "bear growl|bear|growl", "growl"),
    ("fly", "animal", "housefly|mosquito|buzzing fly", "buzz"),
    ("heartbeat", "human", "heartbeat|heart beat|pulse|heart", "beat|thump"),
    ("sigh", "human", "sigh", "sigh"),
    ("yawn", "human", "yawn", "yawn"),
    ("groan", "human", "groan|moan", "groan|moan"),
    ("booing", "human", "booing", "boo|jeer"),
    ("finger snap", "human", "finger snap|snapping finger|finger snapping", ""),
    ("kiss", "human", "kiss", ""),
    ("gargling", "human", "gargling", "gargle"),
    ("swallowing", "human", "swallowing|gulp|slurp", "gulp|slurp"),
    ("yodel", "human", "yodeling|yodelling", "yodel"),
    ("foghorn", "vehicle", "foghorn|horn|ship horn", ""),
    ("bicycle bell", "signal", "bicycle bell|bike bell", ""),
    ("buzzer", "signal", "buzzer", ""),
    ("cash register", "object", "cash register", ""),
    ("slot machine", "object", "slot machine", ""),
    ("cork", "object", "cork popping|popping cork|champagne cork", ""),
    ("creak", "object", "creaking floor|floorboard", ""),
    ("stapler", "object", "stapler", ""),
    ("lighter", "object", "match strike|lighter flick|cigarette lighter|match being struck", ""),
    ("whip", "object", "whip crack", ""),
    ("axe", "object", "axe|wood chopping|chopping wood|chop|chopping|wood splitting", "chop"),
    ("shovel", "object", "shovel|digging", ""),
    ("broom", "object", "broom|sweeping", ""),
    ("throat singing", "human", "throat singing|overtone singing", ""),
    ("cat purr", "animal", "purr|purring cat", "purr"),
    ("carriage", "vehicle", "carriage|horse-drawn carriage|cart|wagon|shopping cart|wheel", ""),
    ("pencil sharpener", "object", "sharpener|sharpening", "sharpen"),
    ("blowing nose", "human", "nose blowing|blowing nose|nose", ""),
    ("notification", "signal", "notification sound|message tone|chime|alert", "ping"),
    ("slap", "human", "slap|smack|spanking", "slap|smack"),
    ("fart", "human", "fart|flatulence", "fart"),
    ("lip smacking", "human", "lip smacking|smacking lips", ""),
    ("spitting", "human", "spitting|spit", "spit"),
    ("babbling", "human", "baby babbling|baby talk|cooing baby", ""),
    ("battle cry", "human", "battle cry|war cry", ""),
    ("ratchet", "object", "ratchet|gear|pulley|cogwheel|winch", ""),
    ("spray", "object", "spray|spray can|aerosol|sprayer", "spray"),
    ("steam", "object", "steam|steam release|pressure cooker", "hiss"),
    ("lock", "object", "lock|latch|padlock|bolt|key turning", "lock"),
    ("window", "object", "window|window opening|blinds|curtain", ""),
    ("chair", "object", "chair|chair scraping|furniture|furniture moving|table being moved", "scrape"),
    ("umbrella", "object", "umbrella|umbrella opening", ""),
    ("popcorn", "object", "popcorn|popcorn popping", "pop"),
    ("suitcase", "object", "suitcase|luggage|rolling suitcase|trolley", "roll"),
    ("hand dryer", "object", "hand dryer", "blow|roar"),
    ("coffee machine", "object", "coffee machine|espresso machine|coffee maker|coffee grinder", "hiss|grind"),
    ("juicer", "object", "juicer|electric mixer|hand mixer", "whir"),
    ("loom", "object", "loom|weaving", ""),
    ("lathe", "object", "lathe|milling machine|angle grinder|grinder|grinding wheel|welding|welder|blowtorch", "grind"),
    ("hedge trimmer", "object", "hedge trimmer|leaf blower|brush cutter|weed whacker", "buzz"),
    ("drone aircraft", "vehicle", "quadcopter|flying drone", "buzz"),
    ("snowmobile", "vehicle", "snowmobile|jet ski|quad bike", ""),
    ("roller coaster", "vehicle", "roller coaster|carousel", ""),
    ("escalator", "object", "escalator", ""),
    ("robot", "object", "robot|servo", ""),
    ("laser", "signal", "laser|laser gun|raygun", ""),
    ("jump rope", "object", "jump rope|rope skipping|trampoline", ""),
    ("volleyball", "object", "volleyball|football kick|soccer ball", "bounce"),
    ("darts", "object", "darts|billiard ball|pool ball|snooker", ""),
    ("marbles", "object", "marble", "roll"),
    ("wood block", "music", "wood block|wooden block|woodblock|clave|clapstick", ""),
    ("tuning fork", "music", "tuning fork", ""),
    ("shofar", "music", "shofar|conch|alphorn", ""),
    ("singing bowl", "music", "singing bowl|tibetan bowl", ""),
    ("crocodile", "animal", "crocodile|alligator", "hiss|growl"),
    ("cheetah", "animal", "cheetah|hyena", ""),
    ("otter", "animal", "otter|ferret|chipmunk|chinchilla", ""),
    ("hippo", "animal", "hippo|rhino|camel", "grunt"),
    ("tornado", "nature", "tornado|hurricane|blizzard|sandstorm", "roar"),
    ("geyser", "nature", "geyser|hot spring", ""),
    ("footsteps in water", "nature", "sloshing|wading", "slosh|wade"),
    ("train horn", "vehicle", "train horn|train whistle|steam whistle|horn|whistle|horn blast|locomotive horn", "blare|blow|toot"),  # noqa: E501
    ("ship horn", "vehicle", "horn|ship whistle|boat whistle|horn blast", "blare|blow|bellow"),
    ("air horn", "signal", "air horn|horn|vuvuzela", "blare"),
    ("clock chime", "object", "clock chime|chime|striking clock|clock striking|grandfather clock|cuckoo clock", "chime"),  # noqa: E501
    ("pouring", "nature", "pouring|liquid|pouring liquid|liquid pouring|beverage|drink|coffee pouring", "pour"),
    ("stirring", "object", "stirring|spoon|stirring spoon|whisking", "stir|whisk"),
    ("bubbling", "nature", "bubble|bubbling|boiling", "bubble|boil"),
    ("chopping food", "object", "food chopping|cutting board|knife", "chop|slice"),
    ("eating", "human", "eating|munching|crunching|chewing", "munch|eat|chew|crunch"),
    ("drinking", "human", "drinking|sip|slurping", "drink|sip|slurp|gulp"),
    ("rhythmic clapping", "human", "rhythmic clapping", ""),
    ("children playing", "human", "children playing|children play|kids play|playground|kid playing|children", ""),
    ("ice cubes", "object", "ice cube|ice", ""),
    ("wood creak", "object", "wood cracking|wood creak|plank", ""),
    ("thud", "object", "thud|thump|impact|bump|knocking over", "thud|thump|bump"),
    ("crash", "object", "car crash|crash|collision|impact|smash", "crash|smash|collide"),
    ("squeak", "object", "squeak|squeaking|squeaky hinge|squeaky toy|toy|rubber duck", "squeak"),
    ("rattle", "object", "rattle|rattling|rattling chain|chain", "rattle|clank|clatter"),
    ("whoosh", "object", "whoosh|swoosh|swish|whooshing", "whoosh|swoosh|swish"),
    ("machinery", "object", "machinery|machine|engine|motor|pump|compressor|generator|conveyor|factory machine|industrial machine", "whir|whirr|hum|clank"),  # noqa: E501
    ("elevator", "object", "elevator", "ding"),
    ("pencil writing", "object", "pencil|writing|pen|chalk|scribbling|pen scratching", "scribble|scratch"),
    ("sandpaper", "object", "sandpaper|sanding|scraping|filing", "scrape|grind"),
    ("adhesive tape", "object", "adhesive tape|duct tape|velcro|ripping|tearing", "rip"),
    ("plastic bag", "object", "plastic bag|crinkling plastic|wrapper|bubble wrap", "crinkle|rustle|crackle"),
    ("bottle opening", "object", "bottle|can opening|soda can|bottle cap", "fizz|pop"),
    ("toothbrush", "object", "toothbrush|electric toothbrush|brushing teeth|brushing|teeth are brushed|teeth being brushed|teeth are being brushed", ""),  # noqa: E501
    ("shaver", "object", "electric shaver|shaving|shave|razor|clipper|hair clipper", "buzz"),
    ("sword", "object", "sword|blade clash|clashing sword", "clash|clang"),
    ("arrow", "object", "arrow|bow and arrow", ""),
    ("shell casing", "object", "shell casing|bullet casing|cartridge", ""),
    ("celesta", "music", "celesta|celeste", ""),
    ("guiro", "music", "guiro|cabasa", ""),
    ("toaster", "object", "toaster", ""),
    ("construction vehicle", "vehicle", "bulldozer|excavator|forklift|digger|backhoe|steamroller", ""),
    ("sprinkler", "nature", "sprinkler|garden hose|water hose", ""),
    ("windshield wiper", "vehicle", "windshield wiper|windscreen wiper|wiper", ""),
    ("medical monitor", "signal", "heart monitor|ecg monitor|ventilator", ""),
    ("pinball", "object", "pinball|pinball machine", ""),
    ("fork", "object", "fork", "scrape"),
    ("hole punch", "object", "hole punch", ""),
    ("gavel", "object", "gavel", ""),
    ("quartet", "music", "quartet|quintet", ""),
    ("backfire", "vehicle", "backfire|backfiring car", "backfire"),
    ("dice", "object", "dice|die roll", ""),
    ("card shuffling", "object", "card shuffling|shuffling card|deck of cards", "shuffle"),
    ("playground swing", "object", "playground swing|rocking chair", "creak|squeak"),
    ("car door", "vehicle", "car door|car door slam", "slam|shut"),
    ("reversing beep", "signal", "parking sensor|reversing beeper|reversing beep|backup beeper|truck reversing|beep", "beep"),  # noqa: E501
    ("morse code", "signal", "morse code|telegraph", ""),
    ("radio tuning", "signal", "radio tuning|tuning noise", ""),
    ("video game", "signal", "video game|arcade|game sound effect", ""),
    ("dial tones", "signal", "dtmf|dialing|touch tone|rotary dial|modem", ""),
    ("geiger counter", "signal", "geiger counter", ""),
    ("sonar", "signal", "sonar|sonar ping", "ping"),
    ("volcano", "nature", "volcano|lava", "erupt"),
    ("ice skating", "object", "ice skate|skating rink|hockey", ""),
    ("bowling pin", "object", "bowling|bowling pin", ""),
    ("golf swing", "object", "golf|golf swing|golf ball", ""),
    ("lute", "music", "lute|oud|bouzouki|balalaika|pipa|shamisen|erhu", ""),
    ("steel drum", "music", "steel drum|steelpan|handpan|hang drum", ""),
    ("cowbell", "music", "cowbell", ""),
    ("theremin", "music", "theremin", ""),
    ("kazoo", "music", "kazoo|ocarina|whistle", ""),
    ("turntable", "music", "turntable|record scratch|scratching|dj scratch|vinyl", "scratch"),
    ("string quartet", "music", "string quartet|string trio", ""),
    ("lullaby", "music", "lullaby|nursery rhyme", ""),
    ("penguin", "animal", "penguin|seal|sea lion|walrus", ""),
    ("flying bat", "animal", "flying bat", ""),
    ("peacock", "animal", "peacock", ""),
    ("eagle", "animal", "eagle|hawk|falcon|bird of prey", "screech"),
    ("swan", "animal", "swan|crane|heron", ""),
    ("camel", "animal", "camel|llama|alpaca", ""),
    ("deer", "animal", "deer|stag|elk|moose", ""),
    ("hamster", "animal", "hamster|guinea pig|rodent", "squeak"),
    ("rabbit", "animal", "rabbit|hare|hedgehog", ""),
    ("giraffe", "animal", "giraffe|ostrich|buffalo|bison|antelope", ""),
    ("punch", "human", "punch|fist fight", "punch"),
    ("kiss", "human", "kissing|kiss", "kiss"),
    ("knuckle cracking", "human", "knuckle cracking|joint cracking", ""),
    ("can opener", "object", "can opener|corkscrew", ""),
    ("spinning top", "object", "spinning top|yo-yo|slingshot", ""),
    ("turnstile", "object", "turnstile|locker", ""),
    ("fishing reel", "object", "fishing reel|fishing rod", ""),
    ("skiing", "object", "skiing|sledding|sled|toboggan", ""),
    ("rowing", "object", "rowing|oar|paddle", ""),
    ("raking", "object", "rake|raking|pickaxe|wheelbarrow", ""),
    ("sander", "object", "sander|belt sander|nail gun|rivet gun", ""),
    ("stove", "object", "gas burner|gas stove|gas hob|stove|stovetop|burner|oven", "click"),
    ("grater", "object", "grater|grating|pepper mill", "grate"),
    ("tumble dryer", "object", "tumble dryer|clothes dryer", ""),
    ("electric spark", "object", "electric spark|electric arc|tesla coil|electrical spark", "spark"),
    ("intercom", "signal", "intercom|entryphone", ""),
    ("microphone feedback", "signal", "microphone feedback|audio feedback|feedback", ""),
    ("gramophone", "object", "gramophone|jukebox|tape rewinding|cassette player", ""),
    ("megaphone", "human", "megaphone|bullhorn", ""),
    ("rockfall", "nature", "rockfall|falling rocks", ""),
    ("windmill", "object", "windmill|wind turbine", ""),
    ("hovercraft", "vehicle", "hovercraft|submarine|go-kart|rickshaw|limousine|minibus", ""),
    ("snow plow", "vehicle", "snow plow|street sweeper|combine harvester", ""),
    ("thumb piano", "music", "kalimba|mbira|thumb piano|washboard|hurdy-gurdy|mellotron", ""),
    ("euphonium", "music", "euphonium|flugelhorn", ""),
    ("flapping wings", "animal", "wing|flapping|wing flap|flapping wing|bird flapping", "flap"),
)  # fmt: skip

#: more precise name -> its parent
PARENTS: dict[str, str] = {
    "electric guitar": "guitar",
    "truck": "car engine",
    "bus": "car engine",
    "race car": "car engine",
    "brakes": "tire squeal",
    "hi-hat": "cymbal",
    "timpani": "drums",
    "tabla": "drums",
    "faucet": "water",
    "fountain": "water",
    "fly": "bee buzz",
    "male speech": "speech",
    "female speech": "speech",
    "child speech": "speech",
    "throat singing": "singing",
    "rooster crow": "chicken cluck",
    "train horn": "train",
    "cat purr": "cat meow",
    "bicycle bell": "bell",
    "clock chime": "clock",
    "pouring": "water",
    "car door": "door",
    "cowbell": "bell",
    "geiger counter": "click",
    "children playing": "child speech",
    "eating": "chewing",
    "eagle": "bird song",
    "horse hooves": "horse neigh",
}

#: a source of several sounds -> other sounds of a truth that its name may refer to
SOURCE_SOUNDS: dict[str, tuple[str, ...]] = {
    "cheering": ("crowd", "shouting"),
    "speech": ("shouting", "whisper"),
    "male speech": ("shouting", "whisper"),
    "female speech": ("shouting", "whisper"),
    "child speech": ("children playing", "laughter", "shouting", "scream"),
    "scream": ("shouting",),
    "whisper": ("speech", "male speech", "female speech", "child speech"),
    "chewing": ("eating",),
    "bird song": ("seagull", "parrot", "pigeon coo", "woodpecker", "cuckoo", "swan", "flapping wings"),
    "machinery": ("drill", "sewing machine", "washing machine", "printer", "lawn mower", "blender", "fan"),
    "horse neigh": ("horse hooves",),
    "crowd": ("cheering", "applause", "laughter", "booing", "speech", "scream"),
    "crying": ("scream", "laughter", "child speech"),
    "waves": ("water",),
    "beep": ("alarm",),
    "singing": ("choir", "humming", "rap"),
    "band": ("drums", "trumpet", "guitar", "orchestra"),
    "orchestra": ("violin", "trumpet", "flute"),
    "shouting": ("scream", "cheering", "speech", "male speech", "female speech", "child speech"),
    "train": ("steam whistle", "whistle blow"),
}

#: a sound that may be part of others -> those others; a truth seldom lists both
PARTS: dict[str, tuple[str, ...]] = {
    "brakes": ("train", "bus", "truck", "car engine"),
    "speech": ("radio", "television", "megaphone"),
    "breathing": ("dog bark", "snoring", "yawn", "sigh", "crying"),
    "flapping wings": ("pigeon coo", "chicken cluck", "rooster crow", "duck quack", "goose", "crow caw", "owl hoot"),
}

#: sounds -> words for the animal that makes them, which contradict the action of another one ("a cat barks")
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
    "intercom|punch|feedback|stove|burner|oven|oar|paddle|spark|rake|grate|grating|greeting|prayer|auction|podcast|hare"
    "|comment|remark|step|tone|string|stream|key|mallet|crash|speaker|recorder|wave|leaf|bass|boom|shot|chorus|ensemble|burning|burn"
    "|watch|tap|song|cock|camera|lightning|triangle|click|clicks|clicking|clicked|fan|fox|bear|bus|sigh|sink|fly|radio|television|shower|buzz|ball|walk|walked|walking|hum|rap|tick|river|sea|surf|jet|saw|paper|ship|bull|calf|ring|rang|static|pant|pants"  # noqa: E501
    "|bang|banging|talk|vocal|break|rev|slam|crunch|blast|ape|hen|flame"
    "|timer|indicator|gear|winch|spray|steam|lock|latch|bolt|window|curtain|blinds|chair|furniture|trolley|furniture|marble"  # noqa: E501
    "|robot|laser|grinder|hymn|lark|spit|wood block|volley|ferry|wheel|cart|wagon|carriage|nose|alert|notification|motor|propeller|rotor|toddler|liquid|beverage|drink|spoon|bubble|knife|ice|wood"  # noqa: E501
    "|plank|machine|machinery|pump|compressor|generator|conveyor|pen|chalk|wrapper|bottle|blade|wing|card|swimmer"
    "|dive|switch|mouse|cup|pot|pan|plate|gate|drawer|cupboard|blaze|storm|tide|swell|key"
    "|lecture|interview|interviewer|spokesperson|father|mother|grandfather|grandmother|pipe|pedal|racket|skate|beat"
    "|interference|tennis|mixer|washer|golf|bowling|arcade|vessel|hooter|tv|cell|mobile|smartphone|seal|crane|bat"
    "|chain|collision|impact|page|pulse|heart|heel|boot|shoe|stride|twig|foliage|shard|cooking|writing|filing"
    "|skating|swimming|discussion|cyclist|racket|atm|dice|arrow|sword|swan|deer|stag|beeper|lava|ignition"
    "|nailing|machine noise|rap|tapping|engine noise|drummer|pianist|envelope|camera|shutter|landline|pop"
    "|burst|blast|bang|boom|explosion sound|plunge|flush|crackle|rattle|squeak|squeal|screech|grunt|trickle"
    "|whine|whimper|squawk|rustle|chop|thud|thump|bump|smash|crash|snip|zip|clatter|peal|rumble|drone|hum"
    "|ping|whir|whirr|fizz|clang|clank|jingle|toy|quartet|quintet|hands|hose|digger|scanner|ventilator|dynamite|copier|lighter|lullaby|nursery rhyme|fork|wiper|"  # noqa: E501
) + PEOPLE
_WEAK_VERBS = (
    "sputter|crunch|hum|whir|whirr|drone|rumble|crackle|pop|clatter|rattle|clank|clang|jingle|tinkle|peal|squeak"
    "|squeal|screech|growl|whine|whimper|squawk|blare|toot|blow|peep|flow|drip|lap|crash|patter|fry|burn|pound"
    "|beat|bounce|rev|rip|rustle|crumple|crinkle|pluck|hover|chop|slice|spray|lock|slap|smack|wade|slosh|roll|grind|sharpen|vibrate|thump|thud|bump|smash|whoosh"  # noqa: E501
    "|swoosh|swish|ding|scratch|scrape|grind|fizz|clash|shuffle|ping|erupt|drink|eat|sip|idle|discuss|jog"
    "|tread|trot|stomp|boil|pour|stir|bubble|flap|clop|collide|flush|click|tap|scribble|whisk|blend|chug|trill"
    "|warble|blast|boom|bang|jangle|zip|snip|yelp|plunge"
)
#: verbs of which every form is weak, since many sources may do it
WEAK_VERBS: frozenset[str] = frozenset(_WEAK_VERBS.split("|"))
WEAK: frozenset[str] = frozenset(_WEAK_WORDS.split("|"))

#: words that name a family -> the family
GENERAL: dict[str, str] = {
    phrase: family
    for family, phrases in (
        ("animal", "animal|animal sound|animal noise|animal call|animal vocalization|creature"),
        ("human", "human sound|human activity|human voice"),
        ("vehicle", "vehicle|vehicle sound"),
        (
            "music",
            "music|wind instrument|brass instrument|percussion instrument|stringed instrument|musical instrument|"
            "musical bed|musical score|film score|orchestral score|musical accompaniment|musical background|instrument|melody|tune|string instrument|"  # noqa: E501
            "instrumental|jazz|techno|heavy metal|punk rock|grunge|blues|funk|disco|dubstep|electronica|flamenco|"
            "salsa|opera|bluegrass|ska|gospel|afrobeat|bossa nova|hip-hop|orchestral piece|waltz|muzak|"
            "chamber music|classical music|reggae|hip hop|soundtrack",
        ),
        ("nature", "nature sound|natural sound|sound of nature"),
        ("signal", "electronic sound"),
    )
    for phrase in phrases.split("|")
}
