"""The layers of CrossViT, for every Keras backend."""

from keras_crossvit.layers.attention import Attention
from keras_crossvit.layers.bicubic_resize import BicubicResize
from keras_crossvit.layers.cross_attention_fusion import CrossAttentionFusion
from keras_crossvit.layers.drop_path import DropPath
from keras_crossvit.layers.image_preprocessing import Preprocessing
from keras_crossvit.layers.mlp import MLP
from keras_crossvit.layers.patch_embedding import PatchEmbedding
from keras_crossvit.layers.token_embedding import TokenEmbedding
from keras_crossvit.layers.token_pooling import TokenPooling
from keras_crossvit.layers.transformer_block import TransformerBlock

__all__ = [
    "MLP",
    "Attention",
    "BicubicResize",
    "CrossAttentionFusion",
    "DropPath",
    "PatchEmbedding",
    "Preprocessing",
    "TokenEmbedding",
    "TokenPooling",
    "TransformerBlock",
]
