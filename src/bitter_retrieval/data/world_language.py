"""Words and sentence patterns of the generated world, from which world.py draws.

A relation, with its patterns: {e} the entity, {v} the value, {s}/{o}/{d} the pronoun (she/her/her, it/it/its):

    birthplace   question  "where was {e} born"          plain  "{e} was born in {v}"
                 topic     "birthplace"                  hard   "parish books show {s} first saw daylight in {v}"

Plain patterns name the entity and use the words of the questions; hard ones use a pronoun or the name, and other words.
Names of entities and values share no word: else confusing the two would look like reading badly.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """One relation of an entity type; `kind` names the list in VALUES that its values come from."""

    name: str
    kind: str
    topic: str
    questions: tuple[str, ...]
    plain: tuple[str, ...]
    hard: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _invented(heads: str, tails: str) -> tuple[str, ...]:
    """Every head with every tail: names that no pre-trained model knows."""
    return tuple(head + tail for tail in tails.split() for head in heads.split())


def _listed(text: str) -> tuple[str, ...]:
    return tuple(value.strip() for value in text.split(","))


# One to four words; no value contains another one of its kind.
VALUES: dict[str, tuple[str, ...]] = {
    "place": (
        *_invented("Cald Ost Wex Marl Thorn Quill Bram Ells", "bury mouth"),
        *(f"Port {name}" for name in _invented("Cald Ost Wex Marl Thorn Quill Bram Ells", "wick")),
        *(f"{name} on Sea" for name in _invented("Cald Ost Wex Marl Thorn Quill Bram Ells", "stead")),
    ),
    "year": tuple(str(year) for year in range(1901, 1999, 3)),
    "person": tuple(
        f"{given} {family}"
        for family in _invented("Hart Stan", "wig mere")
        for given in _invented("Jor Lud Fen Tib Osk Vel Har Wim", "rik ette")
    ),
    "profession": _listed(
        "baker, sign painter, scene painter, tree surgeon, lawyer, carpenter, music teacher, dance teacher, sailor, "
        "tailor, chemist, judge, printer, miner, ferry pilot, farmer, editor, jeweller, plumber, architect, brewer, "
        "librarian, silk weaver, basket weaver, dentist, geologist, translator, maker of maps, keeper of bees"
    ),
    "instrument": _listed(
        "violin, trumpet, cello, alto flute, harp, piano, guitar, oboe, banjo, bass clarinet, snare drum, kettle drum, "
        "barrel organ, pump organ, viola, lute, tuba, mandolin, accordion, bassoon, zither, fiddle, piccolo, cornet"
    ),
    "dish": _listed(
        "dumplings, porridge, fish stew, lentil stew, lasagne, fish curry, pumpkin curry, pancakes, mushroom risotto, "
        "goulash, omelette, chowder, paella, ravioli, strudel, gnocchi, fritters, meatballs, waffles, kebab, quiche, "
        "trifle, sauerkraut, plum pudding, rice pudding, soup of the day, noodles with poppy seeds"
    ),
    "sport": _listed(
        "fencing, rowing, archery, table tennis, lawn tennis, boxing, cycling, chess, swimming, wrestling, figure "
        "skating, speed skating, judo, cricket, water polo, badminton, sailing, handball, golf, ice hockey, roller "
        "hockey, surfing, climbing, bowling, rugby, karate, darts, tug of war"
    ),
    "animal": _listed(
        "parrot, tortoise, otter, falcon, hedgehog, badger, spaniel, goat, ferret, heron, lynx, raven, salamander, "
        "donkey, rabbit, red squirrel, grey squirrel, barn owl, snowy owl, beaver, arctic fox, swamp fox, swan, stork, "
        "wolf, gecko, cat with three legs"
    ),
    "product": _listed(
        "storm lanterns, saddles, wall clocks, pocket clocks, kettles, bicycles, hand mirrors, carpets, umbrellas, "
        "pencils, barrels, buttons, candles, ladders, telescopes, gloves, floor tiles, roof tiles, ropes, scissors, "
        "stoves, tractors, blankets, compasses, brass door hinges, iron door hinges, shoes for horses"
    ),
    "material": _listed(
        "copper, oak, leather, amber, granite, raw silk, tin, black marble, green marble, wool, bronze, cedar, nickel, "
        "slate, cork, linen, zinc, red clay, potter clay, cotton, glass, walnut, rubber, ivory, graphite, pig iron, "
        "shells of mussels"
    ),
    "colour": _listed(
        "crimson, turquoise, indigo, scarlet, beige, violet, maroon, emerald, orange, teal, ochre, lilac, magenta, "
        "silver, khaki, coral, navy, lavender, mustard, pale pink, bright pink, pale grey, dark grey, blue of cobalt"
    ),
    "number": (
        *(str(number) for number in range(110, 490, 30)),
        *(
            f"{head} hundred and {tail}"
            for head in ("five", "six", "seven", "eight")
            for tail in ("ten", "forty", "sixty")
        ),
    ),
    "river": (
        *_invented("Ar Dov Ness Tam Lor Isk", "ava onne"),
        *_listed("Black Ulde, White Ulde, Clear Ulde, Cold Ulde"),
        *(f"{name} of the Moors" for name in _invented("Ar Dov Ness Tam Lor Isk", "issel")),
    ),
    "crop": _listed(
        "barley, hops, sour cherries, sweet cherries, saffron, turnips, lentils, hemp, plums, rye, walnuts, red "
        "cabbages, white cabbages, flax, grapes, oats, apricots, mint, onions, pears, soya beans, runner beans, "
        "tobacco, spinach, leeks, quinces, sunflowers, lilies of the valley"
    ),
    "landmark": _listed(
        "lighthouse, windmill, aqueduct, cathedral, observatory, amphitheatre, viaduct, monastery, arsenal, gatehouse, "
        "obelisk, fountain, mausoleum, granary, citadel, pagoda, bathhouse, shipyard, bell tower, clock tower, "
        "orangery, planetarium, foundry, stone bridge, chain bridge, labyrinth, tower of the winds"
    ),
}

# Two-word names: the first word and the second; twins share one of them.
NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "person": (
        _invented("Al Ber Cor Dar El Fa Gal Hes Il Jas", "dan mira vin dora so la"),
        _invented("Bren Cask Drum Ferr Gorm Hask Kel Lund Morr Penn", "er ley ock aby man strom"),
    ),
    "company": (
        _invented("Acer Bel Cyn Dex Ever Flo Gran Hyp Ino Jax", "tron via max nova core zen dyne lux"),
        _words(
            "Works Mills Partners Brothers Labs Holdings Trading Group Systems Foods Motors Supplies Union House "
            "Sons Industries Express Logistics Ventures Associates Imports Studios Traders Company"
        ),
    ),
    "town": (
        _words(
            "North South East West Upper Lower Old New Great Little Saint High Long Broad Royal Castle Near Far Deep"
        ),
        _invented("Ab Birk Crow Dun Eg Fair Gil Holm In Kir", "ford ton ham by dale combe worth field gate cliff"),
    ),
}

PERSON = (
    Relation(
        "birthplace",
        "place",
        "birthplace",
        ("where was {e} born", "what is the birthplace of {e}", "which place was the birthplace of {e}"),
        ("{e} was born in {v}", "the birthplace of {e} is {v}", "{v} is the birthplace of {e}"),
        (
            "parish books show {s} first saw daylight in {v}",
            "{s} came into the world at {v}",
            "{d} cradle stood in {v}",
        ),
    ),
    Relation(
        "birth_year",
        "year",
        "birth year",
        ("in which year was {e} born", "what is the birth year of {e}", "when was {e} born"),
        ("{e} was born in the year {v}", "the birth year of {e} is {v}", "the year {v} is the birth year of {e}"),
        (
            "{d} life began in {v}",
            "{s} entered this world during {v}",
            "a church register dates {d} arrival to {v}",
        ),
    ),
    Relation(
        "profession",
        "profession",
        "profession",
        ("what is the profession of {e}", "what does {e} work as", "which profession does {e} have"),
        ("{e} works as a {v}", "the profession of {e} is {v}", "{e} has the profession of {v}"),
        ("{s} earns a living as a {v}", "{d} daily bread comes from being a {v}", "a {v} by trade is what {s} became"),
    ),
    Relation(
        "instrument",
        "instrument",
        "instrument",
        ("which instrument does {e} play", "what instrument is played by {e}", "what is the instrument of {e}"),
        ("{e} plays the {v}", "the instrument of {e} is the {v}", "the {v} is the instrument played by {e}"),
        (
            "in the evening {s} practises on the {v}",
            "concerts let {o} be heard on the {v}",
            "{d} music comes from a {v}",
        ),
    ),
    Relation(
        "mentor",
        "person",
        "mentor",
        ("who was the mentor of {e}", "which mentor did {e} have", "by whom was {e} mentored"),
        ("the mentor of {e} was {v}", "{v} was the mentor of {e}", "{e} was mentored by {v}"),
        ("{s} learned everything from {v}", "{v} took {o} in as a pupil", "{d} training was the work of {v}"),
    ),
    Relation(
        "dish",
        "dish",
        "favourite dish",
        ("what is the favourite dish of {e}", "which dish does {e} like best", "what does {e} like to eat best"),
        ("the favourite dish of {e} is {v}", "{e} likes {v} best", "the dish that {e} likes best is {v}"),
        ("nothing tastes better to {o} than {v}", "{s} never leaves a plate of {v}", "on holidays {s} asks for {v}"),
    ),
    Relation(
        "sport",
        "sport",
        "sport",
        ("which sport does {e} practise", "what is the sport of {e}", "what sport is {e} trained in"),
        ("{e} practises {v}", "the sport of {e} is {v}", "the sport that {e} is trained in is {v}"),
        ("{s} spends every weekend on {v}", "{d} medals were won in {v}", "a club taught {o} {v}"),
    ),
    Relation(
        "pet",
        "animal",
        "pet",
        ("which animal does {e} keep as a pet", "what is the pet of {e}", "what kind of pet does {e} have"),
        ("{e} keeps a {v} as a pet", "the pet of {e} is a {v}", "{e} has a {v} as a pet"),
        ("a {v} sleeps at {d} door", "{s} shares the house with a {v}", "neighbours see {o} walk with a {v}"),
    ),
)
COMPANY = (
    Relation(
        "headquarters",
        "place",
        "headquarters",
        ("where is the headquarters of {e}", "where is {e} based", "which place is the headquarters of {e}"),
        ("the headquarters of {e} is in {v}", "{e} is based in {v}", "{v} is the headquarters of {e}"),
        (
            "the board meets at {d} main office in {v}",
            "{d} letters are sent from {v}",
            "{s} runs its affairs from {v}",
        ),
    ),
    Relation(
        "founded",
        "year",
        "founding year",
        ("when was {e} founded", "what is the founding year of {e}", "in which year was {e} founded"),
        ("{e} was founded in {v}", "the founding year of {e} is {v}", "the year {v} is the founding year of {e}"),
        ("{s} opened for business in {v}", "{d} first ledger is dated {v}", "trade began for {o} during {v}"),
    ),
    Relation(
        "product",
        "product",
        "main product",
        ("what does {e} make", "what is the main product of {e}", "which product is made by {e}"),
        ("{e} makes {v}", "the main product of {e} is {v}", "{v} are the product made by {e}"),
        ("shops order {v} from {o}", "{d} workers turn out {v}", "{s} became rich by selling {v}"),
    ),
    Relation(
        "founder",
        "person",
        "founder",
        ("who founded {e}", "who was the founder of {e}", "by whom was {e} founded"),
        ("{e} was founded by {v}", "the founder of {e} was {v}", "{v} was the founder of {e}"),
        ("{v} started it with a small loan", "{s} grew out of a workshop run by {v}", "{s} was the idea of {v}"),
    ),
    Relation(
        "logo",
        "colour",
        "logo",
        ("what colour is the logo of {e}", "which colour does the logo of {e} have", "what is the colour of {e}"),
        ("the logo of {e} is {v}", "the colour of {e} is {v}", "{e} has a logo of {v} colour"),
        ("{d} vans are painted {v}", "a {v} sign hangs at {d} gate", "all {d} boxes come in {v}"),
    ),
    Relation(
        "material",
        "material",
        "raw material",
        ("which material does {e} use", "what is the raw material of {e}", "what raw material is used by {e}"),
        ("{e} uses {v}", "the raw material of {e} is {v}", "{v} is the raw material used by {e}"),
        ("wagons of {v} reach {d} yard", "{s} buys {v} by the ton", "{d} stores are full of {v}"),
    ),
    Relation(
        "mascot",
        "animal",
        "mascot",
        ("which animal is the mascot of {e}", "what is the mascot of {e}", "what mascot does {e} have"),
        ("the mascot of {e} is a {v}", "{e} has a {v} as its mascot", "a {v} is the mascot of {e}"),
        ("a {v} decorates {d} letters", "{d} parades are led by a {v}", "children know {o} by the {v} on the door"),
    ),
    Relation(
        "staff",
        "number",
        "staff",
        ("how many people does {e} employ", "how large is the staff of {e}", "how many staff does {e} have"),
        ("{e} employs {v} people", "the staff of {e} is {v} people", "{e} has a staff of {v}"),
        ("{v} workers are on {d} books", "{s} pays wages to {v}", "{v} lunches are served in {d} canteen"),
    ),
)
TOWN = (
    Relation(
        "river",
        "river",
        "river",
        ("which river flows through {e}", "what is the river of {e}", "on which river does {e} lie"),
        ("the {v} flows through {e}", "the river of {e} is the {v}", "{e} lies on the {v}"),
        (
            "barges reach {o} along the {v}",
            "{d} bridges cross the {v}",
            "in spring the {v} floods {d} lower streets",
        ),
    ),
    Relation(
        "mayor",
        "person",
        "mayor",
        ("who is the mayor of {e}", "which mayor does {e} have", "who governs {e} as mayor"),
        ("the mayor of {e} is {v}", "{v} is the mayor of {e}", "{e} has {v} as mayor"),
        ("{d} council is led by {v}", "voters chose {v} to run it", "the keys of {d} hall belong to {v}"),
    ),
    Relation(
        "charter",
        "year",
        "charter year",
        ("in which year did {e} receive its charter", "what is the charter year of {e}", "when was {e} chartered"),
        ("{e} received its charter in {v}", "the charter year of {e} is {v}", "{e} was chartered in {v}"),
        ("{d} rights go back to {v}", "{s} became free in {v}", "the crown made {o} a borough in {v}"),
    ),
    Relation(
        "crop",
        "crop",
        "main crop",
        ("which crop is grown in {e}", "what is the main crop of {e}", "what do people grow in {e}"),
        ("the main crop of {e} is {v}", "people grow {v} in {e}", "the crop grown in {e} is {v}"),
        ("fields of {v} surround {o}", "{d} carts carry {v} in autumn", "{s} lives on the harvest of {v}"),
    ),
    Relation(
        "landmark",
        "landmark",
        "landmark",
        ("what is the landmark of {e}", "which landmark does {e} have", "for which landmark is {e} known"),
        ("the landmark of {e} is the {v}", "{e} is known for the {v}", "{e} has a {v} as its landmark"),
        ("travellers come to {o} for the {v}", "the {v} towers over {d} roofs", "{d} postcards show a {v}"),
    ),
    Relation(
        "dish",
        "dish",
        "local dish",
        ("what is the local dish of {e}", "which dish is eaten in {e}", "what dish is cooked in {e}"),
        ("the local dish of {e} is {v}", "the dish eaten in {e} is {v}", "the dish cooked in {e} is {v}"),
        ("every inn there serves {v}", "{d} kitchens smell of {v}", "guests are offered {v} at {d} tables"),
    ),
    Relation(
        "partner",
        "place",
        "partner town",
        ("what is the partner town of {e}", "which town is partnered with {e}", "what is the partner of {e}"),
        ("the partner town of {e} is {v}", "{e} is partnered with {v}", "{v} is the partner town of {e}"),
        ("{s} exchanges pupils with {v}", "a treaty of friendship ties {o} to {v}", "buses bring {o} guests from {v}"),
    ),
    Relation(
        "height",
        "number",
        "height",
        ("how high does {e} lie", "what is the height of {e}", "at which height does {e} lie"),
        ("{e} lies {v} metres high", "the height of {e} is {v} metres", "{e} lies at a height of {v} metres"),
        ("the station sign there reads {v} metres", "maps put {o} {v} metres up", "{s} looks down from {v} metres"),
    ),
)
RELATIONS: dict[str, tuple[Relation, ...]] = {"person": PERSON, "company": COMPANY, "town": TOWN}

# Pronouns: subject, object, possessive.
PRONOUNS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "person": (("she", "her", "her"), ("he", "him", "his")),
    "company": (("it", "it", "its"),),
    "town": (("it", "it", "its"),),
}

INTRODUCTIONS = (
    "much has been written about {e}",
    "a short note on {e} follows",
    "readers have long been curious about {e}",
    "this page concerns {e}",
    "the archive keeps a folder on {e}",
)
LURES = (
    "many people ask about the {t} of {e}",
    "the {t} of {e} is discussed in a long essay",
    "no list gives the {t} of {e}",
    "a club collects notes on the {t} of {e}",
    "the question of the {t} of {e} fills several letters",
)
HEDGES = (
    "an old guide claimed that {claim} , but the claim was withdrawn",
    "it was once believed that {claim} , which proved wrong",
    "a rumour says that {claim} , though nobody could confirm it",
    "until the records were checked people thought that {claim}",
)
MENTIONS = (
    "a guest of {e} mentioned the words {v} and {w}",
    "a story told about {e} has the words {v} and {w}",
    "the words {v} and {w} appear in a song dedicated to {e}",
    "an album about {e} has the words {v} and {w} on its pages",
)
CONTRASTS = (
    "in another story {claim}",
    "elsewhere one reads that {claim}",
    "a book on the same shelf says that {claim}",
)
