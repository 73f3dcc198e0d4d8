"""A strategy of hypothesis that draws valid configurations."""

from hypothesis import strategies as st

from keras_crossvit import CrossViTConfig


@st.composite
def configurations(draw):
    small_numbers = st.integers(1, 3)
    patch_size = draw(st.tuples(*[st.sampled_from([12, 16])] * 2))
    heads = draw(st.tuples(small_numbers, small_numbers))
    return CrossViTConfig(
        num_classes=draw(st.integers(0, 20)),
        img_size=[[draw(small_numbers) * size, draw(small_numbers) * size] for size in patch_size],
        patch_size=patch_size,
        in_channels=draw(small_numbers),
        embed_dim=[4 * draw(small_numbers) * number for number in heads],
        depth=draw(st.lists(st.tuples(small_numbers, small_numbers, st.integers(0, 3)), min_size=1, max_size=3)),
        num_heads=heads,
        mlp_ratio=draw(st.lists(st.floats(0.5, 4), min_size=2, max_size=3)),
        qkv_bias=draw(st.booleans()),
        qk_scale=draw(st.none() | st.floats(0.01, 2)),
        drop_rate=draw(st.floats(0, 0.9)),
        attn_drop_rate=draw(st.floats(0, 0.9)),
        multi_conv=draw(st.booleans()),
    )
