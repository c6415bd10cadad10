"""A whole comparison in one command: searches, seeds and controls, each trained and measured alike.

python -m darts_noise.study configs/study/digits.yaml
"""
