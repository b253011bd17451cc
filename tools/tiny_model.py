"""Writes a language model of half a megabyte that says one sentence: `python tools/tiny_model.py OUT.gguf`.

It is a real `llama` model file (2 layers, 64 wide, a SentencePiece vocabulary of 391 pieces and a chat template), so a
real engine loads it and computes it. Its weights are drawn at random from a fixed seed, but for the output rows: each
word's row points at the word that follows it, and everything else leads to the first word. So a reply is readable,
and tells which model gave it. Words of the sentence must differ, because the model looks at the last one only.
"""

import argparse
import sys
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

SENTENCE = "I am a tiny model, but the server that runs me is real."

_WIDTH = 64
_LAYERS = 2
_HEADS = 4
_FEED_FORWARD = 96
_CONTEXT = 2048
_PIECES = 391
_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
_UNKNOWN, _BEGIN, _END = 0, 1, 2
_FIRST_BYTE = 3


def pieces_of(sentence: str) -> tuple[list[str], list[int], list[float], list[int]]:
    """The vocabulary (texts, kinds, scores) and the ids of the sentence's words, in order. Raises ValueError."""
    words = sentence.split()
    if not words or len(set(words)) != len(words) or not sentence.isascii() or not sentence.isprintable():
        raise ValueError(f"the sentence must be of printable ASCII words that all differ: {sentence!r}")
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, *[gguf.TokenType.BYTE] * 256]
    scores = [0.0] * len(texts)
    known = set(texts)
    texts.extend("▁" + word for word in words)
    said = list(range(len(texts) - len(words), len(texts)))
    known.update(texts)
    for code in range(32, 127):
        piece = "▁" if code == 32 else chr(code)  # SentencePiece writes a blank as ▁
        if piece not in known:
            texts.append(piece)
    if len(texts) > _PIECES:
        raise ValueError(f"the sentence has more than {_PIECES - len(texts) + len(words)} words")
    texts.extend(f"<unused{number}>" for number in range(_PIECES - len(texts)))
    kinds.extend([gguf.TokenType.NORMAL] * (len(texts) - len(kinds)))
    scores.extend([-1.0] * (len(texts) - len(scores)))
    return texts, [int(kind) for kind in kinds], scores, said


def weights(said: list[int], *, seed: int = 7) -> dict[str, NDArray[np.float32]]:
    """The tensors by name: small random ones inside, and an output that chains the sentence's words."""
    dice = np.random.default_rng(seed)

    def random(rows: int, columns: int) -> NDArray[np.float32]:
        return (dice.standard_normal((rows, columns)) * 0.01).astype(np.float32)

    start = np.sign(dice.standard_normal(_WIDTH))
    embedding = start + 0.3 * dice.standard_normal((_PIECES, _WIDTH))
    embedding[said] = np.sign(dice.standard_normal((len(said), _WIDTH)))
    output = np.zeros((_PIECES, _WIDTH))
    output[said[0]] = start
    for word, following in zip(said, [*said[1:], _END], strict=True):
        output[following] += embedding[word]
    tensors = {
        "token_embd.weight": embedding.astype(np.float32),
        "output_norm.weight": np.ones(_WIDTH, dtype=np.float32),
        "output.weight": output.astype(np.float32),
    }
    for layer in range(_LAYERS):
        block = f"blk.{layer}."
        tensors |= {block + f"attn_{part}.weight": random(_WIDTH, _WIDTH) for part in ("q", "k", "v", "output")}
        tensors |= {block + f"{part}_norm.weight": np.ones(_WIDTH, dtype=np.float32) for part in ("attn", "ffn")}
        tensors |= {block + f"ffn_{part}.weight": random(_FEED_FORWARD, _WIDTH) for part in ("gate", "up")}
        tensors[block + "ffn_down.weight"] = random(_WIDTH, _FEED_FORWARD)
    return tensors


def write(path: Path, *, sentence: str = SENTENCE) -> None:
    """Write the model file; it appears whole or not at all. Raises ValueError for a sentence that it cannot say."""
    texts, kinds, scores, said = pieces_of(sentence)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    writer = gguf.GGUFWriter(part, "llama")
    writer.add_name("tiny")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(_PIECES)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_unk_token_id(_UNKNOWN)
    writer.add_bos_token_id(_BEGIN)
    writer.add_eos_token_id(_END)
    writer.add_add_bos_token(value=True)
    writer.add_chat_template(_TEMPLATE)
    for name, tensor in weights(said).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(path)


def main() -> int:
    """Write the file that the command line names."""
    parser = argparse.ArgumentParser(description="Write a tiny model file that a llama.cpp server loads.")
    parser.add_argument("out", type=Path, help="the .gguf file to write")
    parser.add_argument("--sentence", default=SENTENCE, help="what it says; its words must all differ")
    asked = parser.parse_args()
    try:
        write(asked.out, sentence=asked.sentence)
    except ValueError as error:
        print(f"tiny_model: {error}", file=sys.stderr)
        return 2
    print(f"{asked.out}: {asked.out.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
