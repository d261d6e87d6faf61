"""Wordings and vocabularies of the generated tasks, one table per split.

Nothing may stand in both tables: no sentence, question, key, name or label. tests/test_data.py checks that. Braces are
filled by tasks.py: k key, v value, t text.
"""
from __future__ import annotations

# Each needle: (sentence, question, start of the answer). v is a number unless the row says otherwise (see VALUES).
NEEDLES = {
    "train": [
        ("The special magic number for {k} is: {v}.", "What is the special magic number for {k} mentioned in the text?",
         "The special magic number for {k} mentioned in the text is: "),
        ("Remember this: the locker code of {k} is {v}.", "What is the locker code of {k}?", "The locker code of {k} is "),
        ("Note that the account number of {k} is {v}.", "Which account number does {k} have?", "The account number of {k} is "),
        ("[{k}] ticket id: {v}", "Look up the ticket id of {k}.", "[{k}] ticket id: "),
        ("{k} can be reached under extension {v}.", "Under which extension can {k} be reached?",
         "{k} can be reached under extension "),
        ("Someone has written here that the population of {k} is {v}.", "How many people live in {k}?",
         "The population of {k} is "),
        ("IMPORTANT: order {v} belongs to {k}.", "Find the order that belongs to {k}.", "The order that belongs to {k} is order "),
        ("<!-- build of {k}: {v} -->", "Give me the build of {k}.", "build of {k}: "),
    ],
    "test": [
        ("The secret passcode of the {k} is {v}.", "Tell me the secret passcode of the {k}.",
         "The secret passcode of the {k} is "),
        ("According to the register, the {k} weighs exactly {v} grams.", "How many grams does the {k} weigh?",
         "According to the register, the {k} weighs exactly "),
        ("In the archive the {k} is filed as item {v}.", "As which item is the {k} filed?",
         "In the archive the {k} is filed as item "),
        ("The serial of the {k} reads {v}.", "What does the serial of the {k} read?", "The serial of the {k} reads "),
    ],
}
KEYS = {
    "train": ["Lisbon", "Oslo", "Nairobi", "Quito", "Hanoi", "Dublin", "Tunis", "Lima", "Riga", "Kyoto", "Perth",
              "Denver", "Malmo", "Turin", "Porto", "Ghent", "Bergen", "Dakar", "Split", "Tampere", "Alice", "Benjamin",
              "Carla", "Dmitri", "Esther", "Farid", "Greta", "Hassan", "Ingrid", "Jorge", "Kavita", "Liam", "Mariko",
              "Nadia", "Oscar", "Priya", "Quentin", "Rosa", "Stefan", "Tomasz"],
    "test": ["bronze lantern", "wooden chest", "silver compass", "old violin", "glass marble", "iron anvil",
             "painted mask", "leather saddle", "marble statue", "copper kettle", "velvet curtain", "clay pitcher",
             "ivory comb", "pocket watch", "brass trumpet", "stone tablet", "wool blanket", "steel helmet",
             "amber necklace", "paper kite"],
}
# Records: (line, question, start of the answer) for long lists of key-value pairs.
RECORDS = {
    "train": [
        ('"{k}": "{v}",', 'What is the value of the key "{k}" in the JSON above?', '"{k}": "'),
        ("{k} = {v}", "What is {k} set to?", "{k} = "),
        ("{k}\t{v}", "Give the second column of the row {k}.", "{k}\t"),
        ("* {k}: {v}", "Look up {k} in the list.", "* {k}: "),
    ],
    "test": [
        ("user {k} has badge {v};", "Which badge does user {k} have?", "user {k} has badge "),
        ("| {k} | {v} |", "What stands next to {k} in the table?", "| {k} | "),
    ],
}
# Variables: (first assignment, copy, question, start of the answer).
VARIABLES = {
    "train": [
        ("VAR {a} = {v}", "VAR {a} = VAR {b}", "What number does VAR {a} hold?", "VAR {a} = VAR {b} = "),
        ("let {a} = {v};", "let {a} = {b};", "Which number is in {a}?", "{a} = {b} = "),
    ],
    "test": [
        ("Register {a} is loaded with {v}.", "Register {a} is a copy of register {b}.",
         "Which number is in register {a}?", "Register {a} is a copy of register {b}, which is loaded with "),
    ],
}
# Facts about people: (sentence, question, start of the answer, vocabulary of the answer).
FACTS = {
    "train": [
        ("{k} works as a {v} in the town hall.", "What does {k} work as?", "{k} works as a ", "job"),
        ("{k}, who grew up in {v}, has never liked the sea.", "Where did {k} grow up?", "{k} grew up in ", "place"),
        ("Every morning {k} feeds a {v} in the garden.", "Which animal does {k} feed?", "Every morning {k} feeds a ", "pet"),
        ("For her birthday {k} wished for a {v}.", "What did {k} wish for?", "{k} wished for a ", "thing"),
    ],
    "test": [
        ("It is well known that {k} collects {v} stamps.", "Stamps of which country does {k} collect?",
         "It is well known that {k} collects ", "country"),
        ("The favourite instrument of {k} is the {v}.", "Which instrument does {k} like most?",
         "The favourite instrument of {k} is the ", "instrument"),
    ],
}
PEOPLE = {
    "train": ["Anna Berger", "Paul Winter", "Maria Santos", "Peter Novak", "Julia Klein", "Ivan Horvat", "Elena Rossi",
              "Tom Becker", "Sara Lind", "Omar Haddad", "Lucy Grant", "Felix Moreau", "Nina Olsen", "David Stone"],
    "test": ["Walter Finch", "Beatrice Moor", "Edgar Lowell", "Harriet Crane", "Simon Ashby", "Violet Thorne",
             "Rupert Hale", "Agnes Whitlock"],
}
VALUES = {
    "train": {
        "job": ["baker", "carpenter", "nurse", "teacher", "painter", "plumber", "lawyer", "gardener", "tailor", "pilot"],
        "place": ["Vienna", "Prague", "Boston", "Madrid", "Athens", "Warsaw", "Geneva", "Naples", "Seville", "Bremen"],
        "pet": ["donkey", "rabbit", "parrot", "turtle", "hedgehog", "goose", "pony", "squirrel"],
        "thing": ["bicycle", "telescope", "camera", "guitar", "canoe", "typewriter", "hammock", "microscope"],
    },
    "test": {
        "country": ["Norwegian", "Brazilian", "Egyptian", "Japanese", "Mexican", "Turkish", "Finnish", "Indian"],
        "instrument": ["cello", "flute", "harp", "trombone", "clarinet", "accordion", "banjo", "organ"],
    },
}
QUOTES = {
    "train": [("Quote the sentence of the text that begins with these words.", "{t}"),
              ("Which passage of the text starts like this? Continue it word for word.", "{t}")],
    "test": [("Somewhere above there is a sentence with this beginning. Write it out.", "{t}")],
}
# Categories with members: in-context classification and list summaries.
CLASSES = {
    "train": {
        "animal": ["horse", "tiger", "eagle", "salmon", "spider", "wolf", "goat", "whale", "frog", "camel", "otter", "mouse"],
        "tool": ["hammer", "wrench", "chisel", "pliers", "drill", "saw", "shovel", "rake", "file", "clamp", "axe", "ladder"],
        "food": ["bread", "cheese", "pasta", "rice", "soup", "cake", "honey", "butter", "omelette", "pizza", "yoghurt", "noodles"],
        "city": ["Paris", "Tokyo", "Cairo", "Berlin", "Moscow", "Sydney", "Toronto", "Mumbai", "Chicago", "Rome", "Seoul", "London"],
        "color": ["red", "blue", "green", "yellow", "purple", "orange", "black", "white", "brown", "pink", "gray", "violet"],
    },
    "test": {
        "furniture": ["table", "chair", "sofa", "desk", "wardrobe", "shelf", "bench", "cupboard", "stool", "bed", "cabinet", "armchair"],
        "vehicle": ["truck", "tractor", "bus", "ferry", "airplane", "tram", "motorcycle", "helicopter", "van", "submarine", "scooter", "train"],
        "clothing": ["jacket", "trousers", "sweater", "scarf", "gloves", "shirt", "socks", "skirt", "coat", "boots", "dress", "belt"],
        "plant": ["oak", "tulip", "fern", "cactus", "maple", "daisy", "ivy", "willow", "rose", "moss", "pine", "orchid"],
    },
}
CLASS_LINES = {
    "train": ["Word: {t}\nCategory: {v}\n", "{t} -> {v}\n", "Input: {t}\nOutput: {v}\n\n", '{{"item": "{t}", "type": "{v}"}}\n'],
    "test": ["Q: What kind of thing is \"{t}\"? A: {v}\n", "Term: {t} | Group: {v}\n"],
}
LIST_LINES = {
    "train": [("Vote: {v}\n", "\nWhich word got the most votes?", "The word with the most votes is "),
              ("* {v}\n", "\nWhich entry is most frequent in the list?", "The most frequent entry is ")],
    "test": [("A customer ordered: {v}\n", "\nWhat was ordered most often?", "Most often customers ordered: ")],
}
CONTINUE = {
    "train": ["Continue the text.", "Write what comes next.", "Please go on with this document.", "What follows after this passage?",
              "Extend the document by one paragraph.", "Keep writing in the same style.", "Finish the section.",
              "Complete the text above, nothing else.", "How does it continue?", "Write the next few sentences.", "Go on.",
              "Add the part that is missing at the end.", "The text breaks off here. Write its continuation.",
              "Proceed with the text as its author would.", "Take over at the last line and write further.",
              "Produce the next part of this file.", "Give me more of this.", "And then?", "Generate the following lines.",
              "Pick up the thread and keep going.", "Resume here.", "Append what is still to come.", "Next part, please.",
              "Write on until the passage is complete.", "What would the author write now?", "Autocomplete this document.",
              "Keep the tone and format, and continue from the last word.", "Print the rest of it.", "Draft the remainder.",
              "Fill in what comes after the final sentence.", "More, please."],
    "test": ["Carry on from where the excerpt stops."],
}
INTROS = {
    "train": ["", "", "Read the following text.\n\n", "Here is a document.\n\n", "There is information hidden in the text below. "
              "Memorise it; I will ask about it later.\n\n", "Context:\n"],
    "test": ["", "Below is some material to work with.\n\n"],
}
SYSTEMS = {
    "train": ["You are a helpful assistant.", "You answer questions about documents.", "Be brief and exact.",
              "You are an expert reader. Answer from the document only."],
    "test": ["You are a careful reader.", "Reply in as few words as possible."],
}
QUESTION_LEADS = {
    "train": ["\n\n{q}\n", "\n\nQuestion: {q}\nAnswer: ", "\n\n{q}\n\n", "\n\nTask: {q}\n", "\n\nInstruction: {q}\nAnswer: ",
              "\n\n---\n{q}\n", "\n\nNow do this: {q}\n", "\n\nMy request is this. {q}\n"],
    "test": ["\n\nPlease answer: {q}\n", "\n\nQ. {q}\nA. "],
}
