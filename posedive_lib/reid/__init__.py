"""Re-ID (§D, §F): retrieval metrics, re-ranking, and CLIP-ReID in both stages."""
