"""The CrossViT in NumPy and float64, from timm's weights: written from the paper, and sharing nothing with the package.

Images are (B, height, width, channels); the configurations are those of `tests/fixtures`, with class tokens pooled.
"""

import numpy as np
from scipy.special import erf

STEMS = {12: ((4, 3), (3, 0), (1, 1)), 16: ((4, 3), (2, 1), (2, 1))}  # strides and padding of the convolutions


class NumpyCrossViT:
    """Computes the logits of both inputs."""

    epsilon = 1e-6  # of LayerNorm

    def __init__(self, weights, config):
        self.weights = {name: np.asarray(array, "float64") for name, array in weights.items()}
        self.config = config

    def logits(self, images):
        tokens = [self.embed(np.asarray(image, "float64"), b) for b, image in enumerate(images)]
        for stage, depth in enumerate(self.config.depth):
            for b in (0, 1):
                for j in range(depth[b]):
                    tokens[b] = self.block(tokens[b], f"blocks.{stage}.blocks.{b}.{j}", self.config.num_heads[b])
            tokens = [self.fuse(tokens[b], tokens[1 - b], stage, b) for b in (0, 1)]
        return sum(self.dense(self.norm(tokens[b][:, 0], f"norm.{b}"), f"head.{b}") for b in (0, 1)) / 2

    def embed(self, image, b):
        size = self.config.patch_size[b]
        if self.config.multi_conv:
            for i, (stride, padding) in enumerate(STEMS[size]):
                image = np.maximum(image, 0) if i else image
                image = self.convolve(image, f"patch_embed.{b}.proj.{2 * i}", stride, padding)
        else:
            image = self.convolve(image, f"patch_embed.{b}.proj", size, 0)
        patches = image.reshape(len(image), -1, image.shape[-1])
        class_token = np.repeat(self.weights[f"cls_token_{b}"], len(image), axis=0)
        return np.concatenate([class_token, patches], axis=1) + self.weights[f"pos_embed_{b}"]

    def convolve(self, image, name, stride, padding):
        kernel = self.weights[f"{name}.weight"]  # (out, in, height, width)
        image = np.pad(image, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(image, kernel.shape[2:], axis=(1, 2))
        return np.einsum("brcihw,oihw->brco", windows[:, ::stride, ::stride], kernel) + self.weights[f"{name}.bias"]

    def block(self, tokens, name, heads):
        normed = self.norm(tokens, f"{name}.norm1")
        query, key, value = np.split(self.dense(normed, f"{name}.attn.qkv"), 3, axis=-1)
        tokens = tokens + self.dense(self.attend(query, key, value, heads), f"{name}.attn.proj")
        hidden = self.gelu(self.dense(self.norm(tokens, f"{name}.norm2"), f"{name}.mlp.fc1"))
        return tokens + self.dense(hidden, f"{name}.mlp.fc2")

    def fuse(self, own, partner, stage, b):
        name, heads = f"blocks.{stage}", self.config.num_heads[1 - b]
        token = self.dense(self.gelu(self.norm(own[:, :1], f"{name}.projs.{b}.0")), f"{name}.projs.{b}.2")
        both = self.norm(np.concatenate([token, partner[:, 1:]], axis=1), f"{name}.fusion.{b}.norm1")
        query, key, value = (
            self.dense(each, f"{name}.fusion.{b}.attn.w{letter}")
            for letter, each in (("q", both[:, :1]), ("k", both), ("v", both))
        )
        token = token + self.dense(self.attend(query, key, value, heads), f"{name}.fusion.{b}.attn.proj")
        back = f"{name}.revert_projs.{b}"
        token = self.dense(self.gelu(self.norm(token, f"{back}.0")), f"{back}.2")
        return np.concatenate([token, own[:, 1:]], axis=1)

    def attend(self, query, key, value, heads):
        query, key, value = (self.split(each, heads) for each in (query, key, value))
        scores = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        attended = np.einsum("bhqk,bkhd->bqhd", weights, value)
        return attended.reshape(*attended.shape[:2], -1)

    def split(self, tokens, heads):
        return tokens.reshape(*tokens.shape[:2], heads, -1)

    def norm(self, tokens, name):
        centered = tokens - tokens.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centered**2).mean(axis=-1, keepdims=True) + self.epsilon)
        return centered / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def gelu(self, x):
        return x * (1 + erf(x / np.sqrt(2))) / 2

    def dense(self, tokens, name):
        return tokens @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", 0)
