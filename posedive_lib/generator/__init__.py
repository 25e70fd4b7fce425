"""The paper's generator (§B): pose guiders, reference attention, training and sampling.

generator = sampling.load("build/generator")             # or a Stable Diffusion folder
images = generator.generate(photo[None], [0], skeleton[None], depth[None], normals[None], seeds=[0])

The names are imported from the modules: the package itself loads nothing, for diffusers takes
seconds.
"""
