"""Full-size pipelines on one GPU: how fast a run gets, and what the machinery costs there.

    python -m benchmarks.gpu --output benchmarks/results/gpu.json

from the repository's root, on a machine with one GPU of 78 GiB or more. No weights are needed and
nothing is downloaded: the architectures of FLUX.1-dev, Qwen-Image and HunyuanVideo are built from
their configurations with random weights in bf16, prompts are random embeddings of the real lengths.
What a step computes does not depend on the values, so latencies and memory are the real ones; the
pictures are noise, and say nothing about quality. Only a cache that decides by the values of
activations (cache-dit's own) may take other decisions than on trained weights.

The rows come in the order of their worth, and the JSON is written anew after each of them: a run
that is cut off brings home what it had. No row begins that is not expected to end before
`--seconds`. `--toy` runs the same rows at toy sizes, on the CPU too.
"""
