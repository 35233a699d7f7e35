"""The masked autoencoder: what reaches what, sizes, encoders of other shapes, initial weights."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mae_et import Curriculum, MaskedAutoencoder, low_frequency_crop
from mae_et.curriculum import as_pair
from tests.support.models import SMALL, BuildMAE
from tests.support.tensors import images_for, noise_for

ENCODERS = [  # timm name, prefix tokens
    ("vit_base_patch16_224", 1),
    ("vit_base_patch16_gap_224", 0),
    ("vit_small_patch14_reg4_dinov2", 5),
    ("vit_base_patch16_clip_224", 1),  # a norm before the blocks
]


# --- patches


@pytest.mark.parametrize(
    ("image_size", "patch_size", "in_chans"),
    [(32, 8, 3), ((24, 32), (4, 8), 3), ((16, 32), 8, 1), (12, (3, 6), 2), ((8, 12), (8, 4), 5)],
)
def test_patchify(
    small: BuildMAE,
    image_size: int | tuple[int, int],
    patch_size: int | tuple[int, int],
    in_chans: int,
) -> None:
    model = small(image_size=image_size, patch_size=patch_size, in_chans=in_chans, mask_ratio=0.5)
    images = images_for(model)
    patches = model.patchify(images)
    height, width = model.patch_size
    rows, columns = model.grid
    assert patches.shape == (3, rows * columns, height * width * in_chans)
    for row in range(rows):
        for column in range(columns):
            window = images[
                :, :, row * height : (row + 1) * height, column * width : (column + 1) * width
            ]
            expected = window.permute(0, 2, 3, 1).reshape(3, -1)  # row, column, channel
            assert torch.equal(patches[:, row * columns + column], expected)
    assert torch.equal(model.unpatchify(patches), images)


def test_unpatchify_at_a_smaller_size(small: BuildMAE) -> None:
    model = small(image_size=(32, 48))
    model.set_input_size((16, 40))
    images = images_for(model)
    assert torch.equal(model.unpatchify(model.patchify(images)), images)


# --- forward


@pytest.mark.parametrize("target", ["pixel", "norm_pixel"])
@pytest.mark.parametrize(
    ("image_size", "patch_size", "in_chans"),
    [(32, 8, 3), ((24, 32), (4, 8), 1), ((16, 32), 8, 2), ((12, 24), (3, 6), 5)],
)
def test_loss_is_the_mean_over_masked_patches(
    small: BuildMAE,
    target: str,
    image_size: int | tuple[int, int],
    patch_size: int | tuple[int, int],
    in_chans: int,
) -> None:
    model = small(image_size=image_size, patch_size=patch_size, in_chans=in_chans, target=target)
    images, noise = images_for(model), noise_for(model)
    output = model(images, noise)
    assert output.prediction.shape == model.patchify(images).shape
    assert output.mask.sum(dim=1).tolist() == [model.num_patches - model.num_visible] * 3
    errors = []
    for patches, predicted, mask in zip(
        model.patchify(images), output.prediction, output.mask, strict=True
    ):
        for patch, prediction, masked in zip(patches, predicted, mask, strict=True):
            if masked:
                if target == "norm_pixel":
                    patch = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
                errors.append((prediction - patch).square().mean())
    torch.testing.assert_close(output.loss, torch.stack(errors).mean())
    assert output.loss.shape == ()


@pytest.mark.parametrize(("encoder", "num_prefix_tokens"), ENCODERS)
def test_only_visible_patches_influence_predictions(
    small: BuildMAE, encoder: str, num_prefix_tokens: int
) -> None:
    model = small(encoder)
    assert model.num_prefix_tokens == num_prefix_tokens
    images, noise = images_for(model), noise_for(model)
    before = model(images, noise)
    patches = model.patchify(images)

    hidden = patches.clone()
    hidden[before.mask] += 10
    after = model(model.unpatchify(hidden), noise)
    assert torch.equal(after.prediction, before.prediction)
    assert (after.loss - before.loss).abs() > 1

    seen = patches.clone()
    seen[~before.mask] += torch.linspace(-1, 1, patches.shape[-1])
    after = model(model.unpatchify(seen), noise)
    assert ((after.prediction - before.prediction).abs().amax(dim=(1, 2)) > 1e-4).all()


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_predicting_masked_patches_alone(small: BuildMAE, depth: int) -> None:
    model = small(decoder_depth=depth)
    images, noise = images_for(model), noise_for(model)
    whole = model(images, noise)
    whole.loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) == sum(p.requires_grad for p in model.parameters())
    model.zero_grad()
    masked = model(images, noise, masked_only=True)
    masked.loss.backward()

    torch.testing.assert_close(masked.loss, whole.loss)
    assert masked.prediction[~masked.mask].isnan().all()
    torch.testing.assert_close(masked.prediction[masked.mask], whole.prediction[whole.mask])
    for name, gradient in gradients.items():
        torch.testing.assert_close(model.get_parameter(name).grad, gradient)


def test_images_do_not_influence_each_other(small: BuildMAE) -> None:
    model = small()
    images, noise = images_for(model), noise_for(model)
    together = model(images, noise).prediction
    alone = torch.cat([model(images[i : i + 1], noise[i : i + 1]).prediction for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_noise_fixes_the_mask(small: BuildMAE) -> None:
    model = small()
    images, noise = images_for(model), noise_for(model)
    first, second = model(images, noise), model(images, noise)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    smallest = noise.argsort(dim=1)[:, : model.num_visible]
    assert not first.mask.gather(1, smallest).any()
    assert first.mask.sum().item() == 3 * 12


def test_drawn_masks_follow_the_seed(small: BuildMAE) -> None:
    model = small()
    images = images_for(model)

    def mask(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return model(images).mask

    assert torch.equal(mask(0), mask(0))
    assert not torch.equal(mask(0), mask(1))
    assert not torch.equal(mask(0)[0], mask(0)[1])  # each image has its own


@pytest.mark.parametrize("shape", [(3, 3, 24, 24), (3, 1, 32, 32), (3, 3, 32, 40), (3, 32, 32)])
def test_images_of_another_size_are_refused(
    small: BuildMAE, shape: tuple[int, int, int, int] | tuple[int, int, int]
) -> None:
    with pytest.raises(ValueError, match=r"images must be \(N, 3, 32, 32\), got .*set_input_size"):
        small()(torch.zeros(shape))


def test_images_have_to_follow_the_input_size(small: BuildMAE) -> None:
    model = small()
    model.set_input_size(16)
    with pytest.raises(ValueError, match=r"\(N, 3, 16, 16\), got \(3, 3, 32, 32\)"):
        model(torch.zeros(3, 3, 32, 32))


# --- a training step in one call


@pytest.mark.parametrize("positions", ["sincos", "learned"])
@pytest.mark.parametrize("image_size", [32, (32, 48), (48, 32)])
def test_a_step_in_one_call(
    small: BuildMAE, image_size: int | tuple[int, int], positions: str
) -> None:
    """At each stage the loss and the gradients are, to the bit, those of its parts."""
    one, other = (small(image_size=image_size, positions=positions) for _ in range(2))
    stages = Curriculum.efficienttrain_plus(full_size=one.full_size, patch_size=8, budget=20).stages
    images = images_for(one)
    sizes = {stage.size for stage in stages}
    assert len(sizes) == 3
    for stage in stages:
        torch.manual_seed(stage.start)
        loss = one(images, size=stage.size, masked_only=True).loss
        loss.backward()

        torch.manual_seed(stage.start)
        other.set_input_size(stage.size)
        cropped = low_frequency_crop(images, as_pair(stage.size))
        expected = other(cropped, masked_only=True).loss
        expected.backward()

        assert torch.equal(loss, expected)
        assert one.input_size == as_pair(stage.size)
    for name, parameter in other.named_parameters():
        assert_same_gradient(one.get_parameter(name), parameter)


def assert_same_gradient(one: Tensor, other: Tensor) -> None:
    assert (one.grad is None) == (other.grad is None)
    if one.grad is not None and other.grad is not None:
        assert torch.equal(one.grad, other.grad)


def test_a_step_takes_images_of_its_own_size(small: BuildMAE) -> None:
    """As a loader makes them that knows the stage: nothing is left to crop."""
    model = small(image_size=(32, 48))
    model.set_input_size((16, 24))
    images, noise = images_for(model), noise_for(model)
    expected = model(images, noise)
    model.set_input_size((32, 48))
    assert torch.equal(model(images, noise, size=(16, 24)).loss, expected.loss)


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((3, 3, 24, 24), 16, r"full size 32 or of the input size 16, got \(3, 3, 24, 24\)"),
        ((3, 3, 16, 32), 16, r"full size 32 or of the input size 16, got \(3, 3, 16, 32\)"),
        ((3, 3, 48, 48), 32, r"full size 32 or of the input size 32, got \(3, 3, 48, 48\)"),
        ((3, 1, 32, 32), 16, r"images must be \(N, 3, 16, 16\), got \(3, 1, 16, 16\)"),
        ((3, 32, 32), 16, r"images must be \(N, 3, 16, 16\), got \(3, 16, 16\)"),
        ((3, 3, 32, 32), 20, "input size must be a multiple of the patch size 8 and at most"),
        ((3, 3, 48, 48), 48, "input size must be a multiple of the patch size 8 and at most"),
    ],
)
def test_a_step_of_another_size_is_refused(
    small: BuildMAE, shape: tuple[int, ...], size: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        small()(torch.zeros(shape), size=size)
    assert "\n" not in str(error.value)


def test_a_step_needs_floating_point(small: BuildMAE) -> None:
    with pytest.raises(TypeError, match=r"images must be floating point, got torch\.uint8"):
        small()(torch.zeros(3, 3, 32, 32, dtype=torch.uint8), size=32)


# --- input sizes


@pytest.mark.parametrize(("encoder", "num_prefix_tokens"), ENCODERS)
def test_a_smaller_size_has_fewer_tokens(
    small: BuildMAE, encoder: str, num_prefix_tokens: int
) -> None:
    model = small(encoder)
    seen = {}
    for name, block in (("encoder", model.encoder.blocks[0]), ("decoder", model.decoder_blocks[0])):
        block.register_forward_hook(
            lambda _, inputs, __, name=name: seen.update({name: inputs[0].shape[1]})
        )
    for size, num_patches, num_visible in ((32, 16, 4), (24, 9, 2), (16, 4, 1), (32, 16, 4)):
        model.set_input_size(size)
        assert (model.num_patches, model.num_visible) == (num_patches, num_visible)
        output = model(images_for(model), noise_for(model))
        assert output.prediction.shape == (3, num_patches, 8 * 8 * 3)
        assert seen["encoder"] == num_prefix_tokens + num_visible
        assert seen["decoder"] == num_prefix_tokens + num_patches


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (20, r"multiple of the patch size \(4, 8\).*got 20"),
        ((16, 20), r"got \(16, 20\)"),
        ((28, 32), r"at most the full size \(24, 32\), got \(28, 32\)"),
        ((24, 40), r"at most the full size \(24, 32\), got \(24, 40\)"),
        (0, r"got 0"),
        ((-4, 8), r"got \(-4, 8\)"),
        ((4, 8), r"at least 2 patches, got \(4, 8\)"),
        ((4, 16), r"leaves no visible patch of 2"),
    ],
)
def test_sizes_that_do_not_fit(small: BuildMAE, size: int | tuple[int, int], message: str) -> None:
    model = small(image_size=(24, 32), patch_size=(4, 8))
    before = model.input_size, model.encoder_positions.clone()
    with pytest.raises(ValueError, match=message):
        model.set_input_size(size)
    assert model.input_size == before[0]
    assert torch.equal(model.encoder_positions, before[1])


@pytest.mark.parametrize("positions", ["sincos", "learned"])
def test_changing_the_size_leaves_parameters_and_optimizer_alone(
    small: BuildMAE, positions: str
) -> None:
    model = small(positions=positions)
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(
        [parameter for parameter in parameters.values() if parameter.requires_grad], lr=1e-2
    )
    model(images_for(model), noise_for(model)).loss.backward()
    optimizer.step()
    values = copy.deepcopy(model.state_dict())
    state = copy.deepcopy(optimizer.state_dict()["state"])

    model.set_input_size(16)
    after = dict(model.named_parameters())
    assert list(after) == list(parameters)
    assert all(after[name] is parameters[name] for name in parameters)
    assert list(model.state_dict()) == list(values)
    for name, value in model.state_dict().items():
        assert torch.equal(value, values[name]), name
    assert optimizer.state_dict()["state"].keys() == state.keys()
    for key, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            assert torch.equal(value, state[key][name])

    optimizer.zero_grad()
    model(images_for(model), noise_for(model)).loss.backward()
    optimizer.step()  # the optimizer still holds what the model uses
    for name, parameter in parameters.items():
        assert torch.equal(parameter, values[name]) != parameter.requires_grad, name


def test_size_there_and_back_changes_nothing(small: BuildMAE) -> None:
    model = small()
    images, noise = images_for(model), noise_for(model)
    before = model(images, noise)
    for size in (16, 24, 32):
        model.set_input_size(size)
    for one, other in zip(model(images, noise), before, strict=True):
        assert torch.equal(one, other)


def test_positions_are_cached_outside_the_state_dict(small: BuildMAE) -> None:
    model = small()
    assert not {name for name in model.state_dict() if name.endswith("_positions")}
    assert model.encoder.pos_embed.shape == (1, 1 + 16, 32)
    model.set_input_size(16)
    assert model.encoder.pos_embed.shape == (1, 1 + 16, 32)
    assert model.encoder_positions.shape == (1, 1 + 4, 32)
    assert model.decoder_positions.shape == (1, 1 + 4, 16)
    assert not model.encoder_positions.requires_grad


@pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_positions_stay_on_the_models_device(small: BuildMAE, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = small()
    model.set_input_size(24)
    model.to(device)
    assert model.encoder_positions.device.type == device
    model.set_input_size(16)
    assert model.encoder_positions.device.type == device
    assert model.decoder_positions.device.type == device
    output = model(images_for(model).to(device), noise_for(model).to(device))
    assert output.loss.device.type == device


@pytest.mark.parametrize("size", [16, (16, 24), 32])
@pytest.mark.parametrize(("encoder", "num_prefix_tokens"), ENCODERS)
def test_learned_positions_get_gradients(
    small: BuildMAE, encoder: str, num_prefix_tokens: int, size: int | tuple[int, int]
) -> None:
    model = small(encoder, positions="learned")
    model.set_input_size(size)
    model(images_for(model, 32), noise_for(model, 32)).loss.backward()
    for table in (model.encoder.pos_embed, model.decoder_pos_embed):
        assert table.grad is not None
        assert table.grad.shape == table.shape
        assert (table.grad.abs().amax(dim=-1) > 0).all()  # every position, and the prefix
    num_rows = 16 + (0 if model.encoder.no_embed_class else num_prefix_tokens)
    assert model.encoder.pos_embed.shape == (1, num_rows, 32)


@pytest.mark.parametrize("size", [16, 32])
def test_learned_positions_start_as_the_fixed_ones(small: BuildMAE, size: int) -> None:
    fixed, learned = small(), small(positions="learned")
    assert not fixed.encoder.pos_embed.requires_grad
    assert not fixed.decoder_pos_embed.requires_grad
    for model in (fixed, learned):
        model.set_input_size(size)
    images, noise = images_for(fixed), noise_for(fixed)
    assert torch.equal(fixed(images, noise).prediction, learned(images, noise).prediction)


def test_learned_positions_are_used_as_they_are_now(small: BuildMAE) -> None:
    model = small(positions="learned")
    model.set_input_size(16)
    images, noise = images_for(model), noise_for(model)
    before = model(images, noise).prediction
    with torch.no_grad():
        model.decoder_pos_embed.mul_(2)
    assert (model(images, noise).prediction - before).abs().max() > 1e-3


# --- state dicts


@pytest.mark.parametrize("size", [16, 32])
def test_loading_refreshes_the_cached_positions(small: BuildMAE, size: int) -> None:
    source, model = small(), small()
    with torch.no_grad():
        source.encoder.pos_embed.mul_(0.5)
        source.decoder_pos_embed.add_(0.1)
    source.set_input_size(size)
    model.set_input_size(size)
    images, noise = images_for(model), noise_for(model)
    assert not torch.equal(model(images, noise).prediction, source(images, noise).prediction)
    model.load_state_dict(source.state_dict())
    assert torch.equal(model.encoder_positions, source.encoder_positions)
    assert torch.equal(model.decoder_positions, source.decoder_positions)
    assert torch.equal(model(images, noise).prediction, source(images, noise).prediction)


def test_loading_through_a_wrapper_refreshes_too(small: BuildMAE) -> None:
    source, model = small(), small()
    with torch.no_grad():
        source.encoder.pos_embed.mul_(0.5)
    nn.Sequential(model).load_state_dict(nn.Sequential(source).state_dict())
    assert torch.equal(model.encoder_positions, source.encoder.pos_embed)


def test_a_copy_refreshes_its_own_positions(small: BuildMAE) -> None:
    """Weight averaging deep-copies a model, then loads or updates the copy."""
    model = small()
    weights = {name: value + 0.5 for name, value in model.state_dict().items()}
    duplicate = copy.deepcopy(model)
    duplicate.load_state_dict(weights)
    assert torch.equal(duplicate.encoder_positions, weights["encoder.pos_embed"])
    assert torch.equal(model.encoder_positions, model.encoder.pos_embed)


def test_encoder_keys_are_timms(small: BuildMAE) -> None:
    import timm

    model = small()
    plain = timm.create_model(
        "vit_base_patch16_224", img_size=32, patch_size=8, num_classes=0, **SMALL
    )
    assert {k: v.shape for k, v in model.encoder.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }


@pytest.mark.parametrize(("encoder", "num_prefix_tokens"), ENCODERS)
def test_encoding_everything_is_timms_forward(
    small: BuildMAE, encoder: str, num_prefix_tokens: int
) -> None:
    """With all patches visible, in order, the encoder is timm's own."""
    from mae_et.model.masking import PatchMask

    model = small(encoder).eval()
    images = images_for(model)
    everything = torch.arange(16).expand(3, -1)
    patch_mask = PatchMask(everything, everything[:, :0], torch.zeros(3, 16, dtype=torch.bool))
    tokens = model.encode(model.patchify(images), patch_mask, model.encoder_positions)
    expected = model.encoder.forward_features(images)
    assert tokens.shape == (3, num_prefix_tokens + 16, 32)
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)


def test_the_norm_comes_before_any_pooling(small: BuildMAE) -> None:
    """Pooling encoders of timm may norm the pooled features instead of the tokens."""
    pooled, plain = small(encoder_args={"global_pool": "avg"}), small()
    pooled.load_state_dict(plain.state_dict())
    images, noise = images_for(plain), noise_for(plain)
    assert torch.equal(pooled(images, noise).prediction, plain(images, noise).prediction)
    tokens = plain.encoder.forward_features(images)
    torch.testing.assert_close(pooled.encoder(images), tokens[:, 1:].mean(dim=1))


# --- construction


@pytest.mark.parametrize(
    "name", ["resnet18", "swin_tiny_patch4_window7_224", "vit_relpos_small_patch16_224"]
)
def test_other_families_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"model\.encoder must be .*{name}"):
        MaskedAutoencoder(name)


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"model\.encoder .*'vit_bas_patch16_224'; nearest: .*vit_base_patch16_224"
    ):
        MaskedAutoencoder("vit_bas_patch16_224")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 36}, r"model\.image_size must be a multiple .*got 36"),
        ({"image_size": (32, 36)}, r"model\.image_size .*got \(32, 36\)"),
        ({"decoder_num_heads": 3}, r"decoder_num_heads must divide .*16, got 3"),
        ({"decoder_num_heads": 0}, r"decoder_num_heads .*got 0"),
        ({"target": "hog9"}, r"model\.target must be .*norm_pixel.*got 'hog9'"),
        ({"target": "hog", "hog": {"cell": 3}}, r"model\.hog\.cell must divide .*8 x 8, got 3"),
        ({"target": "hog", "hog": {"cell": 0}}, r"model\.hog\.cell must divide .*got 0"),
        ({"target": "hog", "hog": {"bins": 1}}, r"model\.hog\.bins must be at least 2, got 1"),
        ({"target": "hog", "hog": {"gradient": "x"}}, r"model\.hog\.gradient must be .*got 'x'"),
        ({"decoder": "own"}, r"model\.decoder must be 'self' or 'cross', got 'own'"),
        ({"decoder": "cross", "decoder_depth": 0}, r"decoder_depth must be at least 1 .*got 0"),
        ({"decode_ratio": 0.0}, r"model\.decode_ratio must be in \(0, 1\], got 0"),
        ({"decode_ratio": 1.1}, r"model\.decode_ratio must be .*got 1\.1"),
        ({"positions": "rope"}, r"model\.positions must be .*sincos.*got 'rope'"),
        ({"mask_ratio": 1.0}, r"mask_ratio must be in \(0, 1\), got 1\.0"),
        ({"mask_ratio": 0.99}, r"mask_ratio 0\.99 leaves no visible patch of 16"),
        ({"image_size": 8}, r"at least 2 patches"),
        ({"encoder_args": {"embed_dim": 30}}, r"multiple of 4, got 30"),
        ({"encoder_args": {"num_heads": 5}}, r"model\.encoder .*num_heads"),
        ({"encoder_args": {"colour": 1}}, r"model\.encoder .*colour"),
        ({"encoder_args": {"patch_size": 4}}, r"model\.encoder.*patch_size"),
        ({"encoder_args": {"pos_embed": "none"}}, r"model\.encoder must have absolute positions"),
        ({"encoder_args": {"global_pool": "map"}}, r"model\.encoder must not pool by attention"),
    ],
)
def test_arguments_that_do_not_fit(
    small: BuildMAE, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_initial_weights(small: BuildMAE) -> None:
    """Xavier-uniform for linear layers and the flattened patch projection; 0.02 for tokens."""
    model = small(encoder_args={"embed_dim": 64, "num_heads": 4}, decoder_dim=64)
    weights = {
        f"{name}.weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    weights["proj"] = model.encoder.patch_embed.proj.weight.flatten(1)
    assert len(weights) == 4 * 3 + 2 + 1  # three blocks, decoder_embed and decoder_pred, proj
    for name, weight in weights.items():
        bound = (6 / (weight.shape[0] + weight.shape[1])) ** 0.5
        assert weight.abs().max() <= bound, name
        assert weight.abs().max() > 0.99 * bound, name
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03), name
        assert abs(weight.mean().item()) < 0.05 * bound, name


@pytest.mark.parametrize(
    ("encoder", "depth"), [("vit_base_patch16_224", 1), ("vit_small_patch14_reg4_dinov2", 1)]
)
def test_initial_tokens_and_biases(small: BuildMAE, encoder: str, depth: int) -> None:
    model = small(
        encoder, encoder_args={"embed_dim": 768, "depth": depth, "num_heads": 12}, decoder_dim=768
    )
    for token in (model.encoder.cls_token, model.encoder.reg_token, model.mask_token):
        if token is not None:
            assert token.std().item() == pytest.approx(0.02, rel=0.1)
            assert abs(token.mean().item()) < 0.003
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.LayerNorm):
            assert not module.bias.any(), name
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all(), name
            assert module.eps == 1e-6, name


def test_full_size_defaults_to_224_pixels(small: BuildMAE) -> None:
    model = small(image_size=224, patch_size=None)
    assert (model.full_size, model.patch_size, model.full_grid) == (224, (16, 16), (14, 14))
    assert model.mask_ratio == 0.75
    assert (model.num_patches, model.num_visible) == (196, 49)
