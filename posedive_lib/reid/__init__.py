"""Re-ID (§D, §F): CLIP-ReID and a ResNet, their training, retrieval metrics, re-ranking."""
