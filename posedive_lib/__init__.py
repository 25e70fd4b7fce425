"""Pose-dIVE, reproduced: the thin library behind the numbered notebooks."""
