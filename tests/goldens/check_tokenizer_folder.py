"""Compares what fluxd --write-tokenizer writes with the server's own tokens: by the `tokenizers` package on mixed texts and random
strings, and by `transformers` on its chat template.

    python tests/goldens/check_tokenizer_folder.py build/fluxd MODEL.gguf

Needs: tokenizers, transformers, requests. By hand.
"""
import os
import random
import socket
import subprocess
import sys
import tempfile
import time

import requests
from tokenizers import Tokenizer
from transformers import AutoTokenizer

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../e2e"))


def main(binary, model):
    from test_tokenizer_folder import TEXTS

    with tempfile.TemporaryDirectory() as top:
        folder = os.path.join(top, "tokenizer")
        subprocess.run([binary, "--write-tokenizer", folder, "--model", model], check=True)
        its, whole = Tokenizer.from_file(folder + "/tokenizer.json"), AutoTokenizer.from_pretrained(folder)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        server = subprocess.Popen([binary, "--model", model, "--port", str(port)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            while True:
                try:
                    if requests.get(url + "/ready").ok:
                        break
                except requests.ConnectionError:
                    pass
                time.sleep(0.1)
            rng, session = random.Random(1), requests.Session()
            texts = TEXTS + ["".join(chr(rng.choice([rng.randrange(32, 127), rng.randrange(1, 0xD800), rng.randrange(0xE000, 0x2FFFF)]))
                                     for _ in range(rng.randrange(1, 60))) for _ in range(2000)]
            differ = 0
            for text in texts:
                ours = session.post(url + "/tokenize", json={"prompt": text}).json()["tokens"]
                theirs = its.encode(text).ids
                if theirs != ours:
                    differ += 1
                    print("differs:", ascii(text), theirs, ours)
            print(f"{len(texts)} texts, {differ} differ")
            chat = [{"role": "system", "content": "Be short."}, {"role": "user", "content": TEXTS[4]}]
            ours = session.post(url + "/tokenize", json={"messages": chat}).json()["tokens"]
            rendered = whole.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            same = its.encode(rendered, add_special_tokens=False).ids == ours
            print("chat template", "equal" if same else "differs")
            return differ > 0 or not same
        finally:
            server.kill()


sys.exit(main(*sys.argv[1:]))
