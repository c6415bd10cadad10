"""A study: searches, seeds and controls, all trained and measured alike, in one command.

python -m darts_noise.study configs/study/digits.yaml
"""
