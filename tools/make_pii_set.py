#!/usr/bin/env python3
"""Makes the labeled set that `redact` is evaluated on: sentences with personal data at known positions, and
sentences with numbers that only look like it.

Values come from Faker's providers for eleven countries and from python-stdnum, so forms and checksums are
independent of this program. Keys of services are random strings in the services' formats. Everything is
invented; the set is CC0.

    pip install faker==40.* python-stdnum==2.*
    tools/make_pii_set.py pii.jsonl && zstd -19 --rm pii.jsonl -o crates/corpus/tests/data/pii.jsonl.zst

It is kept compressed, so that scanners for leaked keys do not report the invented ones.
"""

import base64
import json
import random
import string
import sys

from faker import Faker
from stdnum import luhn, verhoeff

SEED = 20261122
PHONE_LOCALES = ["en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL", "pt_BR", "sv_SE", "en_IN"]

TEMPLATES = {
    "email": ["Please write to {} before Friday.", "Contact: {}", "From: {}\nSubject: minutes", "Her address, {}, bounced twice.",
              "Schreiben Sie an {}.", "Questions? mailto:{} or the forum.", "\"{}\" <- registered in 2019"],
    "phone": ["Call {} for an appointment.", "Tel.: {}", "My phone number is {}, evenings only.", "Fax {} (office hours)", "Téléphone : {}",
              "You can reach the desk at {} until 6 pm.", "{} is the number of the practice."],
    "ip": ["Connection from {} refused.", "The host {} answered after 20 ms.", "Failed password for root from {} port 22 ssh2",
           "Add {} to the allow list.", "{} - - [10/Oct/2023:13:55:36 +0000] \"GET / HTTP/1.1\" 200 2326"],
    "iban": ["Transfer the deposit to {} please.", "IBAN: {}", "Kontonummer {}, Betreff Miete", "The account {} was closed."],
    "credit_card": ["Card number {}, expires 09/27.", "I paid with {} yesterday.", "Visa or whatever: {}", "charged to {}."],
    "national_id": ["{} is her number.", "My {name} is {}.", "{name}: {}", "Please quote {name} {} in letters."],
    "secret": ["export TOKEN={}", "api_key: \"{}\"", "Authorization: Bearer {}", "use {} for the staging server", "key = '{}'  # remove"],
}

# Look-alikes of personal data. {} is replaced by digits or invented words.
NEGATIVES = [
    lambda r: f"Released as version {r.randint(1, 30)}.{r.randint(0, 40)}.{r.randint(0, 99)}.{r.randint(0, 999)} in spring.",
    lambda r: f"Linux {r.randint(2, 6)}.{r.randint(0, 20)}.{r.randint(0, 40)}.{r.randint(1, 60)} fixes the driver.",
    lambda r: f"On {r.randint(1990, 2030)}-{r.randint(1, 12):02}-{r.randint(1, 28):02} at {r.randint(0, 23):02}:{r.randint(0, 59):02}:{r.randint(0, 59):02} it stopped.",
    lambda r: f"Between {r.randint(1, 28):02}/{r.randint(1, 12):02}/{r.randint(1900, 2030)} and {r.randint(1, 28):02}.{r.randint(1, 12):02}.{r.randint(1900, 2030)} nothing happened.",
    lambda r: f"ISBN 978-{r.randint(0, 9)}-{r.randint(10, 99)}-{r.randint(100000, 999999)}-{r.randint(0, 9)}, hardcover.",
    lambda r: f"ISBN {r.randint(0, 9)}-{r.randint(100, 999)}-{r.randint(10000, 99999)}-{r.randint(0, 9)}",
    lambda r: f"ISSN {r.randint(1000, 9999)}-{r.randint(1000, 9999)}, volume {r.randint(1, 90)}, pages {r.randint(100, 400)}-{r.randint(401, 900)}.",
    lambda r: f"Order {r.randint(100, 999)}-{r.randint(1000000, 9999999)}-{r.randint(1000000, 9999999)} was shipped.",
    lambda r: f"Order number {r.randint(10**9, 10**10 - 1)} and invoice {r.randint(10**7, 10**8 - 1)}.",
    lambda r: f"Tracking {r.choice('1RL')}Z{r.randint(10**9, 10**10 - 1)}{r.choice(string.ascii_uppercase)}",
    lambda r: f"The population was {r.randint(1, 999)},{r.randint(0, 999):03},{r.randint(0, 999):03} in {r.randint(1900, 2020)}.",
    lambda r: f"Il en reste {r.randint(1, 999)} {r.randint(0, 999):03} {r.randint(0, 999):03} dans la région.",
    lambda r: f"pi is 3.14159265358979, e is 2.718281828459045, and x = {r.random():.15f}",
    lambda r: f"({r.randint(100, 999)} + {r.randint(100, 999)}) - {r.randint(1000, 9999)} = {r.randint(-9999, 9999)}",
    lambda r: f"See section {r.randint(1, 9)}.{r.randint(1, 9)}.{r.randint(1, 9)}.{r.randint(1, 9)} and figure {r.randint(1, 9)}-{r.randint(1, 99)}.",
    lambda r: f"doi:10.{r.randint(1000, 9999)}/j.{r.randint(1000, 9999)}-{r.randint(1000, 9999)}.{r.randint(2000, 2020)}.{r.randint(10000, 99999)}.x",
    lambda r: f"commit {r.randbytes(20).hex()} and digest sha256:{r.randbytes(32).hex()}",
    lambda r: f"id {r.randbytes(4).hex()}-{r.randbytes(2).hex()}-{r.randbytes(2).hex()}-{r.randbytes(2).hex()}-{r.randbytes(6).hex()}",
    lambda r: f"git clone git@github.com:project{r.randint(1, 99)}/name.git and open logo@{r.randint(2, 3)}x.png",
    lambda r: f"@decorator.name above def f{r.randint(1, 99)}(a, b): return a @ b.T",
    lambda r: f"npm install left-pad@{r.randint(0, 9)}.{r.randint(0, 20)}.{r.randint(0, 20)} std::vector<int>::iterator it",
    lambda r: f"The MAC {':'.join(f'{b:02x}' for b in r.randbytes(6))} is the printer's; see 127.0.0.1 and 192.168.{r.randint(0, 255)}.{r.randint(1, 254)}.",
    lambda r: f"The range is {r.randint(100, 400)}-{r.randint(401, 700)}-{r.randint(10, 99)} mm; part no. {r.randint(10, 99)}-{r.randint(1000, 9999)}-{r.randint(10, 99)}",
    lambda r: f"Add {r.randint(100, 999)} mg per {r.randint(1, 9)} {r.randint(100, 999)} ml, 10^-{r.randint(2, 9)} M, {r.randint(35, 41)}.{r.randint(0, 9)} °C.",
    lambda r: f"unix time {r.randint(1_000_000_000, 1_800_000_000)}, latitude {r.uniform(-90, 90):.6f}, longitude {r.uniform(-180, 180):.6f}",
    lambda r: f"https://example.org/{r.randint(2000, 2025)}/{r.randint(1, 12):02}/{r.randint(1, 28):02}/item-{r.randint(10**6, 10**7)}?id={r.randint(10**9, 10**10)}",
    lambda r: f"sk-learn beats hf_hub; GPT-{r.randint(2, 5)} and B{r.randint(10, 99)}-{r.randint(100, 999)}, AKIA is a mark, eyJ too",
    lambda r: f"Chapter {r.randint(1, 40)}, verses {r.randint(1, 9)}:{r.randint(1, 30)}-{r.randint(31, 60)}; score 6-4, 7-5, 6-{r.randint(0, 4)}",
    lambda r: f"0x{r.randbytes(4).hex()} 0x{r.randbytes(8).hex()} 0b10110 {r.randint(1, 9)}e{r.randint(10, 99)} {r.randint(10, 99)}%",
    lambda r: f"In {r.randint(1900, 1999)} {r.randint(1900, 1999)} and {r.randint(2000, 2020)} {r.randint(2021, 2030)} sold {r.randint(1000, 9999)} of type A{r.randint(1000000, 9999999)}B",
    lambda r: f"account {''.join(r.choices(string.ascii_uppercase, k=2))}{r.randint(10, 99)} {r.randint(1000, 9999)} {r.randint(1000, 9999)} {r.randint(1000, 9999)} is a serial number",
    lambda r: f"part {r.randint(10**7, 10**8 - 1)}-{r.choice('IOUÑ')} and {r.randint(10**15, 10**16 - 1) // 10**14}{r.randint(10**13, 10**14 - 1)} of batch 9",
]


def phone(fakers, r):
    return fakers[r.choice(PHONE_LOCALES)].phone_number()


def ip(fakers, r):
    fake = fakers["en_US"]
    while r.random() < 0.75:
        address = fake.ipv4_public()
        if not address.startswith(("22", "23", "24", "25")):
            return address
    return "2a0" + r.choice("0123") + ":" + ":".join(f"{r.randrange(1, 65536):x}" for _ in range(7))


def iban(fakers, r):
    value = fakers[r.choice(["de_DE", "en_GB", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL"])].iban()
    return " ".join(value[i:i + 4] for i in range(0, len(value), 4)) if r.random() < 0.5 else value


def credit_card(fakers, r):
    kind = r.choice(["visa16", "mastercard", "amex", "discover", "jcb", "diners"])
    if kind == "jcb":  # Faker's begin outside the issuer's range
        body = str(r.randint(3528, 3589)) + "".join(r.choices(string.digits, k=11))
        value = body + luhn.calc_check_digit(body)
    else:
        value = fakers["en_US"].credit_card_number(card_type=kind)
    if len(value) == 16 and r.random() < 0.6:
        return r.choice(" -").join(value[i:i + 4] for i in range(0, 16, 4))
    return value


def national_id(fakers, r):
    def nir():
        body = f"{r.choice('12')}{r.randint(0, 99):02}{r.randint(1, 12):02}{r.randint(1, 95):02}{r.randint(1, 990):03}{r.randint(1, 999):03}"
        value = body + f"{97 - int(body) % 97:02}"
        return " ".join([value[0], value[1:3], value[3:5], value[5:7], value[7:10], value[10:13], value[13:]]) if r.random() < 0.5 else value

    def aadhaar():
        body = str(r.randint(2, 9)) + "".join(r.choices(string.digits, k=10))
        value = body + verhoeff.calc_check_digit(body)
        return f"{value[:4]} {value[4:8]} {value[8:]}"

    def steuer():
        digits = r.sample(string.digits, 9)
        doubled = digits + [r.choice(digits)]
        r.shuffle(doubled)
        if doubled[0] == "0":
            return steuer()
        from stdnum.iso7064 import mod_11_10
        body = "".join(doubled)
        return body + mod_11_10.calc_check_digit(body)

    def nino():  # Faker's have a prefix that is never given
        number = "".join(r.choices(string.digits, k=6))
        prefix, suffix = r.choice(["AB", "CE", "JK", "PW", "SR", "YZ", "HL"]), r.choice("ABCD")
        return r.choice([prefix + number + suffix, f"{prefix} {number[:2]} {number[2:4]} {number[4:]} {suffix}"])

    def personnummer():
        body = f"{r.randint(40, 99):02}{r.randint(1, 12):02}{r.randint(1, 28):02}{r.randint(1, 999):03}"
        value = body + luhn.calc_check_digit(body)
        return f"{value[:6]}-{value[6:]}"

    return r.choice([
        ("SSN", lambda: fakers["en_US"].ssn()), ("CPF", lambda: fakers["pt_BR"].cpf()), ("DNI", lambda: fakers["es_ES"].nif()),
        ("NIE", lambda: fakers["es_ES"].nie()), ("codice fiscale", lambda: fakers["it_IT"].ssn()), ("PESEL", lambda: fakers["pl_PL"].pesel()),
        ("BSN", lambda: fakers["nl_NL"].ssn()), ("NINO", nino), ("NIR", nir), ("Aadhaar", aadhaar),
        ("Steuer-ID", steuer), ("personnummer", personnummer),
    ])


def secret(fakers, r):
    def characters(alphabet, count):
        return "".join(r.choices(alphabet, k=count))

    letters, url = string.ascii_letters + string.digits, string.ascii_letters + string.digits + "-_"
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
    return r.choice([
        lambda: "AKIA" + characters(string.ascii_uppercase + "234567", 16),
        lambda: r.choice(["ghp_", "gho_", "ghs_"]) + characters(letters, 36),
        lambda: "github_pat_" + characters(letters, 22) + "_" + characters(letters, 59),
        lambda: "sk-" + characters(letters, 20) + "T3BlbkFJ" + characters(letters, 20),
        lambda: "sk-proj-" + characters(url, 156),
        lambda: "sk-ant-api03-" + characters(url, 93) + "AA",
        lambda: f"xoxb-{r.randint(10**11, 10**12)}-{r.randint(10**11, 10**12)}-" + characters(letters, 24),
        lambda: "AIza" + characters(url, 35),
        lambda: r.choice(["sk_live_", "rk_live_", "sk_test_"]) + characters(letters, 24),
        lambda: "hf_" + characters(string.ascii_letters, 34),
        lambda: "glpat-" + characters(url, 20),
        lambda: part({"alg": "HS256", "typ": "JWT"}) + "." + part({"sub": str(r.randint(1, 10**9)), "iat": 1516239022}) + "." + characters(url, 43),
        lambda: "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(characters(letters + "+/", 64) for _ in range(6)) + "\n-----END RSA PRIVATE KEY-----",
    ])()


def main():
    r = random.Random(SEED)
    Faker.seed(SEED)
    fakers = {locale: Faker(locale) for locale in PHONE_LOCALES}
    for fake in fakers.values():
        fake.seed_instance(r.randint(0, 2**31))
    makers = {"email": lambda: fakers[r.choice(PHONE_LOCALES)].email(domain=r.choice([None, "posteo.de", "uni-x.edu", "firma.co.uk"])),
              "phone": lambda: phone(fakers, r), "ip": lambda: ip(fakers, r), "iban": lambda: iban(fakers, r),
              "credit_card": lambda: credit_card(fakers, r), "secret": lambda: secret(fakers, r)}
    rows = []
    for kind, templates in TEMPLATES.items():
        for number in range(240):
            template, name = r.choice(templates), ""
            if kind == "national_id":
                name, make = national_id(fakers, r)
                value = make()
            else:
                value = makers[kind]()
            # Half of the sentences are followed by a look-alike.
            before, after = template.replace("{name}", name).split("{}")
            text = before + value + after + (" " + r.choice(NEGATIVES)(r) if number % 2 else "")
            start = len(before.encode())
            rows.append({"text": text, "values": [{"class": kind, "start": start, "end": start + len(value.encode()), "of": name or kind}]})
    rows += [{"text": r.choice(NEGATIVES)(r), "values": []} for _ in range(1200)]
    r.shuffle(rows)
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    main()
