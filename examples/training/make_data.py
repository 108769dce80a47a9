#!/usr/bin/env python3
"""Makes the training data of the demo adapters: data/{pirate,json,haiku,emoji}.jsonl.

    python make_data.py
    python make_data.py --ask SmolLM2-135M-Instruct.Q4_1.gguf

haiku   lines for ten kinds of topics (data/haiku-lines.txt), put together for each topic and
        asked for in several ways.
json    sentences from templates, with the facts in them as a JSON object.
pirate  hand-written small talk (data/pirate-chat.txt), and the base model's own short answers
        to questions about data/topics.txt, put into pirate speech by rules.
emoji   the same answers of the base model, with an emoji after each sentence by keyword.

Letting the base model write the content teaches an adapter the style and nothing else. Its
answers are kept in data/base-answers.jsonl; --ask asks the model again, greedily. The random
choices are seeded.
"""

import argparse
import json
import random
import re
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"

QUESTIONS = {
    "What do you know about {}?": "what",
    "Tell me about {}.": "tell",
    "Why do people like {}?": "why",
    "Describe {} in a few words.": "tell",
    "What is special about {}?": "what",
    "Tell me a fact about {}.": "tell",
    "How would you explain {} to a child?": "how",
    "Why is {} important?": "why",
    "Can you say something about {}?": "yes",
    "What can we learn from {}?": "what",
}

# Everyday questions that don't fit the pattern above, so that the style doesn't hang on it.
MORE_QUESTIONS = {
    "What is the capital of Spain?": "what",
    "What is the capital of Japan?": "what",
    "What is the capital of Italy?": "what",
    "What is the capital of Canada?": "what",
    "Where is Mount Everest?": "what",
    "Where do polar bears live?": "what",
    "Who painted the Mona Lisa?": "what",
    "Who was Isaac Newton?": "what",
    "Who was Cleopatra?": "what",
    "Who invented the telephone?": "what",
    "When did the Second World War end?": "what",
    "What is the largest planet?": "what",
    "What is the fastest animal?": "what",
    "What is the longest river in the world?": "what",
    "What color is the sky?": "what",
    "How many days are in a week?": "how",
    "How many legs does a spider have?": "how",
    "How do I bake a cake?": "how",
    "How do I make coffee?": "how",
    "How do I boil an egg?": "how",
    "How do I cook pasta?": "how",
    "How do I learn a new language?": "how",
    "How do I plant a tree?": "how",
    "How do I sleep better?": "how",
    "How do I write a letter?": "how",
    "How do I stay healthy?": "how",
    "How do I make new friends?": "how",
    "How do birds fly?": "how",
    "How do planes stay in the air?": "how",
    "How does a computer work?": "how",
    "How does a bicycle pump work?": "how",
    "Why is the sea salty?": "why",
    "Why do leaves fall in autumn?": "why",
    "Why do we sleep?": "why",
    "Why do cats purr?": "why",
    "Why should I read books?": "why",
    "Why is exercise good for me?": "why",
    "Is chocolate healthy?": "yes",
    "Can fish sleep?": "yes",
    "Do plants need light?": "yes",
    "Should I learn to swim?": "yes",
    "Give me a tip for cooking.": "tell",
    "Give me a tip for travelling.": "tell",
    "Suggest a hobby.": "tell",
    "Recommend something to read.": "tell",
    "Name a good breakfast.": "tell",
    "Explain how rain forms.": "tell",
    "Explain what a library is for.": "tell",
    "What should I cook tonight?": "what",
    "What should I wear in winter?": "what",
    "What is a good present for a friend?": "what",
    "What does a doctor do?": "what",
    "What does a teacher do?": "what",
}

# --- pirate ---------------------------------------------------------------------------------

OPENERS = {
    "what": "Arr, ",
    "tell": "Ahoy, matey! ",
    "why": "Shiver me timbers! ",
    "how": "Avast, me hearty! ",
    "yes": "Aye, matey! ",
}
CLOSERS = {
    "what": "Yo ho ho!",
    "tell": "Arr!",
    "why": "Arr, that be why, matey!",
    "how": "Now hoist th' sails!",
    "yes": "Savvy?",
}
PIRATE_PHRASES = {
    r"it is": "'tis",
    r"it's": "'tis",
    r"there (is|are)": "there be",
    r"you are|you're": "ye be",
    r"you": "ye",
    r"your": "yer",
    r"my": "me",
    r"is|are|am": "be",
    r"was|were": "were",
    r"the": "th'",
    r"and": "an'",
    r"of": "o'",
    r"for": "fer",
    r"over": "o'er",
    r"never": "ne'er",
    r"very|really": "mighty",
    r"yes": "aye",
    r"no": "nay",
    r"friends": "mateys",
    r"friend": "matey",
    r"people|humans|individuals": "sailors",
    r"person|someone": "sailor",
    r"children|kids": "cabin boys",
    r"money": "doubloons",
    r"valuable": "worth a chest o' gold",
    r"food": "grub",
    r"drink": "grog",
    r"beautiful": "bonny",
    r"great|wonderful|fantastic": "grand",
    r"delicious": "fit fer a cap'n",
    r"strong|powerful": "mighty",
    r"old|ancient": "barnacled",
    r"journey|trip": "voyage",
    r"travel": "sail",
    r"leader|president|king": "cap'n",
    r"group|team|community": "crew",
}


def pirate(text, kind):
    """Plain English in pirate speech."""
    for phrase, said in PIRATE_PHRASES.items():

        def say(match, said=said):
            word = match.group(0)
            if not word[0].isupper():
                return said
            return "'Tis" if said == "'tis" else said[0].upper() + said[1:]

        text = re.sub(rf"\b(?:{phrase})\b", say, text, flags=re.IGNORECASE)
    text = re.sub(r"\b([A-Za-z]{2,}[a-z])ing\b", shorten, text)
    if OPENERS[kind].endswith(", ") and not re.match(r"[A-Z]['a-z]*[A-Z]|I\b", text):
        text = text[0].lower() + text[1:]
    return f"{OPENERS[kind]}{text} {CLOSERS[kind]}"


def shorten(match):
    kept = {"th", "br", "spr", "str", "someth", "noth", "everyth", "anyth", "even", "morn"}
    stem = match.group(1)
    return match.group(0) if stem.lower() in kept else stem + "in'"


# --- emoji ----------------------------------------------------------------------------------

EMOJI = {
    "☀️": "sun sunny sunlight summer warm heat",
    "🌊": "sea ocean wave waves beach coast",
    "🌧️": "rain rainy rainfall storm weather",
    "❄️": "snow winter cold ice frozen",
    "💨": "wind air windy",
    "☁️": "cloud clouds sky atmosphere",
    "🏞️": "river rivers lake lakes nature natural landscape",
    "⛰️": "mountain mountains mount everest peak hill hiking",
    "🌲": "tree trees forest forests wood autumn leaves",
    "🏜️": "desert deserts sand",
    "🏝️": "island islands holiday holidays vacation",
    "🌋": "volcano volcanoes lava magma earthquake earthquakes eruption",
    "🌈": "rainbow rainbows color colors colour",
    "⭐": "star stars galaxy night",
    "🪐": "planet planets mars jupiter solar space universe",
    "🌍": "earth world global countries country africa continent",
    "🔥": "fire hot burn",
    "💧": "water liquid drink hydrated",
    "🏆": "gold best win winner game games sport sports",
    "🌸": "flower flowers rose roses garden gardens spring bloom",
    "🌱": "plant plants grass seed seeds grow growth farm farms soil",
    "🍄": "mushroom mushrooms fungi",
    "🐝": "bee bees honey pollination pollinators",
    "🦋": "butterfly butterflies insect insects ant ants",
    "🕷️": "spider spiders web webs",
    "🐍": "snake snakes reptiles reptile",
    "🐸": "frog frogs amphibians",
    "🐢": "turtle turtles",
    "🐳": "whale whales dolphin dolphins marine shark sharks fish fishing",
    "🐧": "penguin penguins",
    "🦉": "owl owls eagle eagles bird birds parrot parrots fly wings",
    "🐱": "cat cats purr",
    "🐶": "dog dogs wolf wolves loyal",
    "🐴": "horse horses",
    "🐮": "cow cows sheep milk",
    "🐘": "elephant elephants",
    "🦁": "lion lions predator predators animal animals",
    "🐻": "bear bears",
    "🐵": "monkey monkeys",
    "🦕": "dinosaur dinosaurs",
    "🍞": "bread flour bake baking dough",
    "🧀": "cheese",
    "☕": "coffee breakfast morning",
    "🍎": "apple apples fruit fruits healthy vitamins",
    "🍌": "banana bananas",
    "🍅": "tomato tomatoes potato potatoes vegetable vegetables",
    "🍚": "rice grain",
    "🍲": "soup cook cooking meal meals dish food recipe kitchen",
    "🍕": "pizza pasta italy italian",
    "🍫": "chocolate sweet sugar",
    "🍦": "cream dessert",
    "🎂": "cake birthday birthdays celebrate party",
    "🎵": "music song songs singing melody sound mozart guitar piano drums",
    "💃": "dance dancing",
    "🎨": "art painting paintings artist artists creative creativity leonardo mona",
    "📚": "book books read reading library libraries literature poetry story stories write writing",
    "🎬": "film films movie movies theatre shakespeare plays",
    "📷": "photo photography camera cameras image images",
    "⚽": "football soccer tennis ball players",
    "♟️": "chess strategy",
    "🏊": "swim swimming pool",
    "🏃": "run running exercise fitness",
    "⛺": "camping outdoors tent",
    "😴": "sleep sleeping rest dreams dream bed",
    "🤝": "friend friends friendship together community team",
    "❤️": "love heart hearts romantic feelings passion",
    "😊": "happy happiness joy enjoy fun smile",
    "💪": "courage strong strength brave powerful muscles",
    "😱": "fear afraid danger dangerous",
    "⏰": "time clock clocks hours day days week",
    "🧠": "memory brain mind think thinking knowledge learn learning",
    "💰": "money pay financial economy valuable",
    "💼": "work job career business",
    "🏫": "school teacher teachers students education university universities",
    "🏛️": "history ancient historical egypt cleopatra culture cultural",
    "🔬": "science scientific scientists chemistry biology research cells",
    "🔢": "mathematics math numbers number equations",
    "🍏": "physics newton gravity force",
    "🩺": "medicine doctor doctors health medical disease",
    "💻": "computer computers programming software code data",
    "🤖": "robot robots technology machines machine",
    "☎️": "telephone telephones phone communication invented",
    "🚂": "train trains railway",
    "🚗": "car cars vehicle vehicles drive",
    "⛵": "boat boats ship ships sailing",
    "✈️": "airplane airplanes plane planes travel flight trip",
    "🌉": "bridge bridges",
    "🏰": "castle castles king queen",
    "🏙️": "city cities capital london york buildings",
    "🏡": "house houses home village villages family families window windows",
    "🧒": "child children kids",
    "🕯️": "candle candles light bright",
    "🪞": "mirror mirrors reflection",
    "👟": "shoes shoe walk walking wear",
    "🗺️": "map maps location locations",
    "✉️": "letter letters newspaper newspapers message language languages",
    "🗼": "japan tokyo japanese",
    "🎁": "present gift gifts",
}
BY_WORD = {word: symbol for symbol, words in EMOJI.items() for word in words.split()}


def emoji(text):
    """The text with the emoji of its first two keywords after each sentence."""
    sentences = []
    for sentence in split_sentences(text):
        words = re.findall(r"[a-z]+", sentence.lower())
        symbols = list(dict.fromkeys(BY_WORD[word] for word in words if word in BY_WORD))
        sentences.append(f"{sentence} {''.join(symbols[:2]) or '✨'}")
    return " ".join(sentences)


# --- the base model's answers ---------------------------------------------------------------


def split_sentences(text):
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+(?=[A-Z\"'])", text) if part.strip()]


def short(answer):
    """The first one or two whole sentences of an answer, or None if it isn't plain prose."""
    first_paragraph = answer.strip().split("\n")[0].strip().strip('"')
    sentences = split_sentences(first_paragraph)
    if sentences and not re.search(r"[.!?]$", sentences[-1]):
        sentences.pop()  # cut off in the middle
    text = ""
    for sentence in sentences[:2]:
        if text and len(text) + len(sentence) > 220:
            break
        text = f"{text} {sentence}".strip()
    plain = 20 <= len(text) <= 260 and not re.search(r"[*#`_|:<>]|\d\.", text)
    refusal = re.search(
        r"\b(sorry|an AI|SmolLM|language model|I can't|I cannot)\b", text, re.IGNORECASE
    )
    return text[0].upper() + text[1:] if plain and not refusal else None


def base_answers(gguf, device, questions, batch_size=64):
    """The base model's greedy answers, asked to keep them short."""
    import torch

    from train import load_base, load_tokenizer, render

    tokenizer = load_tokenizer(gguf)
    tokenizer.padding_side = "left"
    model = load_base(gguf).to(device)
    hint = " Answer in one or two short sentences."
    answers = []
    for start in range(0, len(questions), batch_size):
        prompts = [
            render(tokenizer, [{"role": "user", "content": question + hint}])
            for question in questions[start : start + batch_size]
        ]
        batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        batch = batch.to(device)
        with torch.inference_mode():
            result = model.generate(**batch, max_new_tokens=80, do_sample=False)
        width = batch["input_ids"].shape[1]
        answers += tokenizer.batch_decode(result[:, width:], skip_special_tokens=True)
        print(f"  {len(answers)} of {len(questions)} base answers", flush=True)
    return answers


# --- haiku ----------------------------------------------------------------------------------

HAIKU_QUESTIONS = [
    "Tell me about {}.",
    "What is {}?",
    "Write something about {}.",
    "Why do people like {}?",
    "What do you think about {}?",
    "Write a haiku about {}.",
    "Describe {}.",
    "How do I learn about {}?",
    "What do you know about {}?",
    "{}",
]

# Questions whose haiku is about the answer or about one word of the question.
HAIKU_ANSWERS = {
    "What is the capital of Spain?": "Madrid",
    "What is the capital of Japan?": "Tokyo",
    "What is the capital of Italy?": "Rome",
    "What is the capital of Canada?": "Ottawa",
    "What is the capital of Germany?": "Berlin",
    "Where is Mount Everest?": "Mount Everest",
    "Who was Isaac Newton?": "Isaac Newton",
    "Who invented the telephone?": "telephones",
    "How do I bake a cake?": "cake",
    "How do I make coffee?": "coffee",
    "How do I boil an egg?": "an egg",
    "How do I cook pasta?": "pasta",
    "How do I make soup?": "soup",
    "How do I plant a tree?": "trees",
    "How do I sleep better?": "sleep",
    "How do I write a letter?": "letters",
    "How do I make new friends?": "friends",
    "How does a computer work?": "computers",
    "Why is the sea salty?": "the sea",
    "Why do leaves fall in autumn?": "autumn",
    "Why do cats purr?": "cats",
    "Why should I read books?": "books",
    "Should I learn to swim?": "swimming",
    "Explain how rain forms.": "rain",
    "Explain what a library is for.": "a library",
    "What does a doctor do?": "doctors",
    "What does a teacher do?": "teachers",
    "What should I eat for breakfast?": "breakfast",
}


def read_haiku_lines():
    """For each topic a haiku: the lines of its section, each line as often as the others."""
    haiku, section = {}, {}
    for line in (DATA / "haiku-lines.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith(("#", "[")):
            section = {}
            continue
        key, values = line.split(": ", 1)
        section[key] = [value.strip() for value in values.split("," if key == "topics" else "|")]
        if len(section) < 4:
            continue
        for i, topic in enumerate(section["topics"]):
            verses = [section[n][(i * step + i // 5) % 5] for n, step in zip("123", (1, 2, 3))]
            verses[0] = verses[0].format(topic)
            text = "\n".join(verses)
            haiku[topic] = text[0].upper() + text[1:]
    return haiku


def haiku_rows(random):
    haiku = read_haiku_lines()
    rows = [(question, haiku[topic]) for question, topic in HAIKU_ANSWERS.items()] * 2
    for topic, text in haiku.items():
        for question in random.sample(HAIKU_QUESTIONS, 5):
            prompt = question.format(topic)
            rows.append((prompt[0].upper() + prompt[1:], text))
    return rows


# --- json -----------------------------------------------------------------------------------

FIRST = """Anna Ben Carla David Elena Farid Grace Hiro Isabel Jonas Keiko Liam Mina Noah Olga Pedro
Quinn Rosa Samir Tara Umar Vera Walter Ximena Yusuf Zoe Aisha Bruno Chloe Dmitri Emma Felix Gita
Hugo Irene Jamal Karin Luca Marta Nadia Oscar Paula Rafael Sofia Tomas Ursula Victor Wanda Yara
Amara Bilal Celine Diego Esther Finn Hana Ivan Julia Kofi Leila Mateo Nina Omar Petra Ravi Selma
Thomas Valentina William Yan Alice Robert""".split()
LAST = """Smith Garcia Tanaka Novak Rossi Muller Silva Kowalski Okafor Haddad Jensen Dubois Patel
Kim Nguyen Ivanova Costa Brown Larsen Moreau Fischer Santos Ali Yamada Horvat Wilson Mensah Rivera
Lindqvist Petrov Chen Morales Schneider Hughes Abebe Romano Virtanen Popescu Walker Suzuki Diaz
Keller Murphy Osman Janssen Ferrari Cohen Singh Berg Castro Taylor Ito Weber Gomez Nkosi""".split()
PLACES = """Paris|Berlin|Madrid|Rome|Vienna|Oslo|Prague|Warsaw|Athens|Cairo|Nairobi|Lagos|Mumbai
Tokyo|Osaka|Seoul|Beijing|Hanoi|Sydney|Auckland|Boston|Chicago|Seattle|New York|Mexico City|Lima
Bogota|Buenos Aires|Santiago|Sao Paulo|Cape Town|Casablanca|Istanbul|Ankara|Tehran|Delhi|Bangkok
Singapore|Jakarta|Manila|London|Manchester|Glasgow|Brussels|Amsterdam|Hamburg|Munich|Zurich|Geneva
Milan|Naples|Barcelona|Valencia|Porto|Lyon|Marseille|Budapest|Bucharest|Sofia|Belgrade|Stockholm
Copenhagen|Reykjavik|Riga|Vilnius|Tallinn|Kyiv|Montreal|Vancouver|Havana|Kyoto|Nagoya|Dakar|Accra
Kigali|Springfield|Riverside|Oak Hill|Green Valley|Port Louis|San Diego|Los Angeles""".replace(
    "\n", "|"
).split("|")
MONTHS = """January February March April May June July August September October November
December""".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
EVENTS = """concert|wedding|meeting|lecture|workshop|exhibition|football match|marathon|festival
birthday party|conference|book reading|dinner|job interview|chess tournament|cooking class|film night
charity run|piano recital|flea market|graduation|press conference|yoga class|science fair|picnic
dance show|board meeting|street parade|garden party|art auction|poetry slam|school play""".replace(
    "\n", "|"
).split("|")

# {n} name, {e} event, {p} place, {d} date. A fact that a sentence lacks becomes null.
SENTENCES = """{n} is going to a {e} in {p} on {d}.
On {d}, {n} will host a {e} in {p}.
The {e} of {n} takes place in {p} on {d}.
{n} invited us to a {e} in {p} on {d}.
Please note that the {e} with {n} is in {p} on {d}.
In {p}, {n} organised a {e} on {d}.
{d}: {e} with {n} in {p}.
Don't forget the {e} in {p} on {d}, {n} will be there.
My neighbour {n} travelled to {p} for a {e} on {d}.
There was a {e} in {p} on {d}, and {n} gave a speech.
{n} told me about a {e} that was held in {p} on {d}.
We met {n} at the {e} in {p} on {d}.
{n} bought tickets for the {e} on {d} in {p}.
The {e} on {d} in {p} was opened by {n}.
Because of the rain, {n} moved the {e} in {p} to {d}.
{n} gave a {e} in {p} on {d}.
{n} started a new job in {p} on {d}.
{n} was born in {p} on {d}.
{n} moved to {p} on {d}.
{n} opened a shop in {p} on {d}.
{n} will visit us in {p} on {d}.
On {d} {n} arrived in {p}.
{n} lives in {p}.
{n} will come to {p} soon.
I saw {n} in {p} last time.
{n} and the team work in {p}.
{n} is planning a {e}.
{n} missed the {e} on {d}.
{n} has a {e} on {d}.
There is a {e} in {p}.
The {e} in {p} is on {d}.
Everyone enjoyed the {e} on {d}.
The {e} in {p} was cancelled.
{n} called me on {d}.
The office in {p} is closed on {d}.
I met {n} yesterday at a {e} in {p}.""".split("\n")
JSON_QUESTIONS = ["{}"] * 5 + [
    "Extract the facts as JSON: {}",
    "{}\n\nGive me the facts.",
    "Turn this into JSON. {}",
    "Text: {}",
]


def json_date(random):
    day, month, year = random.randint(1, 28), random.choice(MONTHS), random.randint(1950, 2035)
    return random.choice(
        [
            f"{day} {month} {year}",
            f"{day} {month} {year}",
            f"{month} {day}, {year}",
            f"{day} {month}",
            f"{month} {day}",
            random.choice(WEEKDAYS),
            f"{year}-{MONTHS.index(month) + 1:02d}-{day:02d}",
        ]
    )


def json_rows(random, count=1600):
    rows = []
    for i in range(count):
        sentence = SENTENCES[i % len(SENTENCES)]
        first = random.choice(FIRST)
        name = first if random.random() < 0.3 else f"{first} {random.choice(LAST)}"
        values = dict(
            n=name, e=random.choice(EVENTS), p=random.choice(PLACES), d=json_date(random)
        )
        text = sentence.format(**values)
        text = re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", text)
        facts = {
            field: values[key] if "{" + key + "}" in sentence else None
            for field, key in [("name", "n"), ("event", "e"), ("place", "p"), ("date", "d")]
        }
        question = random.choice(JSON_QUESTIONS)
        rows.append((question.format(text), json.dumps(facts, ensure_ascii=False)))
    return rows


# --------------------------------------------------------------------------------------------


def ask(gguf, device, count):
    """Asks the base model and keeps what is fit to learn from in data/base-answers.jsonl."""
    topics = (DATA / "topics.txt").read_text(encoding="utf-8").splitlines()
    pairs = [(q.format(topic), kind) for topic in topics for q, kind in QUESTIONS.items()]
    room = max(0, count - len(MORE_QUESTIONS))
    chosen = random.Random(3).sample(pairs, min(room, len(pairs)))
    questions = (list(MORE_QUESTIONS.items()) + chosen)[:count]
    answers = base_answers(gguf, device, [question for question, _ in questions])
    rows = [
        dict(prompt=question, kind=kind, answer=short(answer))
        for (question, kind), answer in zip(questions, answers)
        if short(answer)
    ]
    write("base-answers", rows)


def read(name):
    with (DATA / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(name, rows):
    path = DATA / f"{name}.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for row in rows:
            if isinstance(row, tuple):
                row = dict(zip(("prompt", "answer"), row))
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{path.name}: {len(rows)} rows")


def main():
    parser = argparse.ArgumentParser(description="Makes the training data of the demo adapters.")
    parser.add_argument("--ask", metavar="GGUF", help="ask the base model in this file again")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--questions", type=int, default=1000, help="how many to ask")
    args = parser.parse_args()

    if args.ask:
        ask(args.ask, args.device, args.questions)

    chat = [
        tuple(line.split("|"))
        for line in (DATA / "pirate-chat.txt").read_text(encoding="utf-8").splitlines()
    ]
    base = read("base-answers")
    write("haiku", haiku_rows(random.Random(1)))
    write("json", json_rows(random.Random(2)))
    write("pirate", chat * 2 + [(r["prompt"], pirate(r["answer"], r["kind"])) for r in base])
    write("emoji", [(r["prompt"], emoji(r["answer"])) for r in base])


if __name__ == "__main__":
    main()
