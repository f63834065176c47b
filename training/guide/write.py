"""Writes the trained guide as a GGUF file with the architecture `qwen2`, and reads one to train it on."""

from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType, TokenType, quants

from training.guide.network import Qwen2, Shape
from training.guide.tokens import SPECIALS, Codec

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Qwen2's own template."""


def write(network: Qwen2, codec: Codec, path: Path, *, half: bool = False) -> None:
    """Write the network, with its matrices as q8_0, or as f16 with `half`."""
    kind = GGMLQuantizationType.F16 if half else GGMLQuantizationType.Q8_0
    writer = GGUFWriter(path, "qwen2")
    writer.add_type("model")
    writer.add_name("guide")
    writer.add_description("A tiny model that knows the program qwenchat and nothing else. It is not Qwen2.")
    writer.add_license("apache-2.0")
    writer.add_languages(["en", "zh"])
    writer.add_file_type(LlamaFileType.MOSTLY_F16 if half else LlamaFileType.MOSTLY_Q8_0)
    writer.add_sampling_temp(0.0)  # each question has one answer, so randomness can only do harm
    writer.add_sampling_penalty_repeat(1.0)
    _shape(writer, network)
    _vocabulary(writer, codec)
    for name, weight in network.state_dict().items():
        values = weight.numpy().astype(np.float32)
        if values.ndim == 2:
            writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path: Path) -> tuple[Qwen2, Codec]:
    """Return the network and vocabulary of a file that `write` has written, which has the usual `Shape`."""
    file = GGUFReader(path)
    merges = (merge.split(" ") for merge in file.fields["tokenizer.ggml.merges"].contents())
    codec = Codec(
        tuple(file.fields["tokenizer.ggml.tokens"].contents()), tuple((left, right) for left, right in merges)
    )
    network = Qwen2(Shape(len(codec.tokens)))
    network.load_state_dict(
        {one.name: torch.from_numpy(quants.dequantize(one.data, one.tensor_type).copy()) for one in file.tensors}
    )
    return network, codec


def _shape(writer: GGUFWriter, network: Qwen2) -> None:
    shape = network.shape
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_vocab_size(shape.vocabulary)


def _vocabulary(writer: GGUFWriter, codec: Codec) -> None:
    plain = len(codec.tokens) - len(SPECIALS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(list(codec.tokens))
    writer.add_token_types([TokenType.NORMAL] * plain + [TokenType.CONTROL] * len(SPECIALS))
    writer.add_token_merges([f"{left} {right}" for left, right in codec.merges])
    writer.add_bos_token_id(codec.special("<|endoftext|>"))
    writer.add_eos_token_id(codec.special("<|im_end|>"))
    writer.add_pad_token_id(codec.special("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)
