import pytest

from rexnet.models.plan import plan_network

# Output channels of the 16 blocks, computed by the authors' code; those of `r` by timm 1.0.31.
CHANNELS = {
    ("v1", 0.6): "16 23 30 36 43 50 56 63 70 77 84 90 97 104 111 117",
    ("v1", 0.9): "16 26 36 46 56 67 77 87 97 107 117 127 138 148 158 168",
    ("v1", 1.0): "16 27 38 50 61 72 84 95 106 117 128 140 151 162 174 185",
    ("v1", 1.1): "18 30 42 55 67 79 92 104 117 129 141 154 166 178 191 203",
    ("v1", 1.2): "19 33 46 60 73 87 100 114 127 141 154 168 181 195 208 222",
    ("v1", 1.3): "21 35 50 65 79 94 109 123 138 152 167 182 196 211 226 240",
    ("v1", 1.4): "22 38 54 70 85 101 117 133 148 164 180 196 211 227 243 259",
    ("v1", 1.5): "24 41 58 75 92 108 125 142 159 176 193 210 226 243 260 277",
    ("v1", 2.0): "32 54 77 100 122 144 167 190 212 234 257 280 302 324 347 370",
    ("v1", 2.2): "35 60 85 109 134 159 184 208 233 258 283 307 332 357 382 406",
    ("v1", 3.0): "48 82 116 149 183 217 250 284 318 352 386 419 453 487 520 554",
    ("lite", 1.0): "16 32 40 48 64 72 80 96 104 112 128 136 144 160 168 184",
    ("lite", 1.3): "24 32 48 64 80 96 104 120 136 152 160 176 192 208 224 232",
    ("lite", 1.5): "24 40 56 72 88 104 120 136 152 176 192 208 224 240 256 272",
    ("lite", 2.0): "32 56 80 96 120 144 160 184 208 232 248 272 296 320 336 360",
    ("r", 1.0): "16 32 40 48 64 72 88 96 104 120 128 144 152 160 176 184",
    ("r", 1.3): "24 32 48 64 80 96 112 120 136 152 168 184 200 208 224 240",
    ("r", 1.5): "24 40 56 72 96 112 128 144 160 176 192 208 224 240 264 280",
    ("r", 2.0): "32 56 80 104 120 144 168 192 216 232 256 280 304 328 344 368",
}
STEM_AND_HEAD = {
    ("v1", 0.6): (32, 768), ("v1", 0.9): (32, 1152), ("v1", 1.0): (32, 1280), ("v1", 1.1): (35, 1408),
    ("v1", 1.2): (38, 1536), ("v1", 1.3): (42, 1664), ("v1", 1.4): (45, 1792), ("v1", 1.5): (48, 1920),
    ("v1", 2.0): (64, 2560), ("v1", 2.2): (70, 2816), ("v1", 3.0): (96, 3840), ("lite", 1.0): (32, 1280),
    ("lite", 1.3): (40, 1664), ("lite", 1.5): (48, 1920), ("lite", 2.0): (64, 2560), ("r", 1.0): (32, 1280),
    ("r", 1.3): (40, 1664), ("r", 1.5): (48, 1920), ("r", 2.0): (64, 2560),
}  # fmt: skip


@pytest.mark.parametrize(("variant", "width"), CHANNELS)
def test_channels_are_the_published_table(variant: str, width: float) -> None:
    plan = plan_network(width, variant)  # type: ignore[arg-type]
    assert [block.out_channels for block in plan.blocks] == [int(c) for c in CHANNELS[variant, width].split()]
    assert (plan.stem_channels, plan.head_channels) == STEM_AND_HEAD[variant, width]
    assert plan.hidden_channels == (1024 if variant == "lite" else 0)


def test_strides_expansions_squeezes_and_shortcuts_stand_where_the_paper_puts_them() -> None:
    blocks = plan_network(1.0).blocks
    assert [i for i, block in enumerate(blocks) if block.stride == 2] == [1, 3, 5, 11]
    assert [block.expanded_channels // block.in_channels for block in blocks] == [1] + [6] * 15
    assert [block.squeezed_channels for block in blocks] == [0] * 3 + [
        19,
        25,
        30,
        36,
        42,
        47,
        53,
        58,
        64,
        70,
        75,
        81,
        87,
    ]
    assert [i for i, block in enumerate(blocks) if block.has_shortcut] == [2, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15]


def test_the_feature_pyramid_of_width_1_has_the_published_channels() -> None:
    levels = plan_network(1.0).levels
    assert [level.channels for level in levels] == [16, 38, 61, 128, 185]
    assert [level.stride for level in levels] == [2, 4, 8, 16, 32]
    assert [level.block for level in levels] == [0, 2, 4, 10, 15]


def test_dilation_keeps_the_resolution_and_the_shortcuts() -> None:
    plain, dilated = plan_network(1.0), plan_network(1.0, output_stride=8)
    assert [level.stride for level in dilated.levels] == [2, 4, 8, 8, 8]
    assert [block.dilation for block in dilated.blocks] == [1] * 6 + [2] * 6 + [4] * 4
    assert [block.has_shortcut for block in dilated.blocks] == [block.has_shortcut for block in plain.blocks]


def test_depth_adds_blocks_to_each_stage_rounded_up() -> None:
    blocks = plan_network(1.0, depth_mult=1.2).blocks
    assert len(blocks) == 2 + 3 + 3 + 4 + 4 + 6
    assert [i for i, block in enumerate(blocks) if block.downsamples] == [2, 5, 8, 16]
    assert [block.expanded_channels == block.in_channels for block in blocks] == [True] * 2 + [False] * 20


def test_squeeze_and_excitation_can_be_left_out_or_added() -> None:
    assert not any(block.squeezed_channels for block in plan_network(1.0, use_se=False).blocks)
    assert plan_network(1.0, se_ratio=0.25).blocks[3].squeezed_channels == 38 * 6 // 4
    assert plan_network(1.0, "lite", use_se=True).blocks[3].squeezed_channels == 24
