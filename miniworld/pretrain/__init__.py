"""How the small models that stand in for Stable Diffusion, CLIP and ViTPose are trained."""
