"""Published configurations of Stable Diffusion's parts, and names and shapes of their weights.

They are written out here independently of diffusers.
"""

SD15_UNET = dict(
    sample_size=64,
    in_channels=4,
    out_channels=4,
    layers_per_block=2,
    block_out_channels=(320, 640, 1280, 1280),
    cross_attention_dim=768,
    attention_head_dim=8,
    norm_num_groups=32,
    act_fn="silu",
    center_input_sample=False,
    flip_sin_to_cos=True,
    freq_shift=0,
    norm_eps=1e-5,
    downsample_padding=1,
    mid_block_scale_factor=1,
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
)
SD21_UNET = {
    **SD15_UNET,
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}
SD_VAE = dict(
    in_channels=3,
    out_channels=3,
    latent_channels=4,
    sample_size=256,
    layers_per_block=2,
    block_out_channels=(128, 256, 512, 512),
    norm_num_groups=32,
    act_fn="silu",
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
)
CLIP_VIT_L = dict(
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=24,
    num_attention_heads=16,
    patch_size=14,
    image_size=224,
    projection_dim=768,
    hidden_act="quick_gelu",
)


def linear(name, n_in, n_out, bias=True):
    return {f"{name}.weight": (n_out, n_in), **({f"{name}.bias": (n_out,)} if bias else {})}


def conv(name, n_in, n_out, side=3):
    return {f"{name}.weight": (n_out, n_in, side, side), f"{name}.bias": (n_out,)}


def norm(name, n):
    return {f"{name}.weight": (n,), f"{name}.bias": (n,)}


def resnet(name, n_in, n_out, time=None):
    tensors = (
        norm(f"{name}.norm1", n_in)
        | conv(f"{name}.conv1", n_in, n_out)
        | norm(f"{name}.norm2", n_out)
        | conv(f"{name}.conv2", n_out, n_out)
    )
    if time:
        tensors |= linear(f"{name}.time_emb_proj", time, n_out)
    return tensors | (conv(f"{name}.conv_shortcut", n_in, n_out, 1) if n_in != n_out else {})


def attention(name, n, context):
    tensors = linear(f"{name}.to_q", n, n, bias=False)
    for part in ("to_k", "to_v"):
        tensors |= linear(f"{name}.{part}", context, n, bias=False)
    return tensors | linear(f"{name}.to_out.0", n, n)


def transformer(name, n, context, linear_projection):
    project = linear if linear_projection else (lambda name, a, b: conv(name, a, b, 1))
    block = f"{name}.transformer_blocks.0"
    return (
        norm(f"{name}.norm", n)
        | project(f"{name}.proj_in", n, n)
        | project(f"{name}.proj_out", n, n)
        | norm(f"{block}.norm1", n)
        | norm(f"{block}.norm2", n)
        | norm(f"{block}.norm3", n)
        | attention(f"{block}.attn1", n, n)
        | attention(f"{block}.attn2", n, context)
        | linear(f"{block}.ff.net.0.proj", n, 8 * n)
        | linear(f"{block}.ff.net.2", 4 * n, n)
    )


def unet_tensors(config):
    """Name -> shape of every tensor in `unet/diffusion_pytorch_model.safetensors`."""
    widths, context, flat = (
        config["block_out_channels"],
        config["cross_attention_dim"],
        config.get("use_linear_projection", False),
    )
    time = 4 * widths[0]
    tensors = (
        conv("conv_in", 4, widths[0])
        | linear("time_embedding.linear_1", widths[0], time)
        | linear("time_embedding.linear_2", time, time)
    )
    skips, n = [widths[0]], widths[0]
    for level, width in enumerate(widths):
        for layer in range(2):
            tensors |= resnet(f"down_blocks.{level}.resnets.{layer}", n, width, time)
            if level < 3:
                tensors |= transformer(
                    f"down_blocks.{level}.attentions.{layer}", width, context, flat
                )
            n = width
            skips.append(n)
        if level < 3:
            tensors |= conv(f"down_blocks.{level}.downsamplers.0.conv", n, n)
            skips.append(n)
    tensors |= (
        resnet("mid_block.resnets.0", n, n, time)
        | transformer("mid_block.attentions.0", n, context, flat)
        | resnet("mid_block.resnets.1", n, n, time)
    )
    for level, width in enumerate(reversed(widths)):
        for layer in range(3):
            tensors |= resnet(f"up_blocks.{level}.resnets.{layer}", n + skips.pop(), width, time)
            if level > 0:
                tensors |= transformer(
                    f"up_blocks.{level}.attentions.{layer}", width, context, flat
                )
            n = width
        if level < 3:
            tensors |= conv(f"up_blocks.{level}.upsamplers.0.conv", n, n)
    return tensors | norm("conv_norm_out", n) | conv("conv_out", n, 4)


def vae_tensors(config, names=("to_q", "to_k", "to_v", "to_out.0", "group_norm")):
    """Name -> shape of the VAE's tensors.

    names: those of its attention; the published files use older ones.
    """
    widths, z = config["block_out_channels"], config["latent_channels"]
    tensors = conv("quant_conv", 2 * z, 2 * z, 1) | conv("post_quant_conv", z, z, 1)
    for half, order, layers, resample, ends in (
        ("encoder", widths, 2, "downsamplers", (3, 2 * z)),
        ("decoder", widths[::-1], 3, "upsamplers", (z, 3)),
    ):
        n = order[0]
        tensors |= conv(f"{half}.conv_in", ends[0], n)
        blocks = "down_blocks" if half == "encoder" else "up_blocks"
        for level, width in enumerate(order):
            for layer in range(layers):
                tensors |= resnet(f"{half}.{blocks}.{level}.resnets.{layer}", n, width)
                n = width
            if level < 3:
                tensors |= conv(f"{half}.{blocks}.{level}.{resample}.0.conv", n, n)
        middle = widths[-1]
        for i in range(2):
            tensors |= resnet(f"{half}.mid_block.resnets.{i}", middle, middle)
        where = f"{half}.mid_block.attentions.0"
        for name in names[:4]:
            tensors |= linear(f"{where}.{name}", middle, middle)
        tensors |= (
            norm(f"{where}.{names[4]}", middle)
            | norm(f"{half}.conv_norm_out", n)
            | conv(f"{half}.conv_out", n, ends[1])
        )
    return tensors


OLD_VAE_NAMES = ("query", "key", "value", "proj_attn", "group_norm")


def clip_tensors(config):
    """Name -> shape of CLIP's vision tower with its projection (the file of `image_encoder/`)."""
    n, hidden = config["hidden_size"], config["intermediate_size"]
    tokens = (config["image_size"] // config["patch_size"]) ** 2 + 1
    model = "vision_model"
    tensors = {
        f"{model}.embeddings.class_embedding": (n,),
        f"{model}.embeddings.patch_embedding.weight": (
            n,
            3,
            config["patch_size"],
            config["patch_size"],
        ),
        f"{model}.embeddings.position_embedding.weight": (tokens, n),
        "visual_projection.weight": (config["projection_dim"], n),
    }
    tensors |= norm(f"{model}.pre_layrnorm", n) | norm(f"{model}.post_layernorm", n)
    for i in range(config["num_hidden_layers"]):
        layer = f"{model}.encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors |= linear(f"{layer}.self_attn.{part}", n, n)
        tensors |= (
            norm(f"{layer}.layer_norm1", n)
            | norm(f"{layer}.layer_norm2", n)
            | linear(f"{layer}.mlp.fc1", n, hidden)
            | linear(f"{layer}.mlp.fc2", hidden, n)
        )
    return tensors
