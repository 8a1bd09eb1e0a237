"""Gradient accumulation on several processes: every micro-batch of every process is a small batch, at no extra pass.

torchrun --nproc-per-node 2 examples/accumulation_ddp.py
"""

from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from adam_minibatch_noise.advice import advise
from adam_minibatch_noise.noise_scale import NoiseScaleMeter

N_SAMPLES, N_PARTS, PART, N_EPOCHS, BETAS = 4096, 4, 16, 10, (0.9, 0.999)

dist.init_process_group("gloo")  # "nccl" on GPUs
rank, n_ranks = dist.get_rank(), dist.get_world_size()
batch_size = N_PARTS * PART * n_ranks  # of an optimiser step, over all processes

torch.manual_seed(0)
inputs = torch.randn(N_SAMPLES, 20)
targets = (inputs[:, :5].sum(1) + torch.randn(N_SAMPLES) > 0).long()
network = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2))
model = DistributedDataParallel(network)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=BETAS)
loss_of = nn.CrossEntropyLoss()

meter = NoiseScaleMeter(model, batch_size, N_SAMPLES)
for _ in range(N_EPOCHS):
    order = torch.randperm(N_SAMPLES)  # the same on all processes: one seed
    for batch in order.split(batch_size):
        if len(batch) < batch_size:
            continue
        parts = batch.view(n_ranks, N_PARTS, PART)[rank]
        for i, part in enumerate(parts):
            with nullcontext() if i == N_PARTS - 1 else model.no_sync():
                (loss_of(model(inputs[part]), targets[part]) / N_PARTS).backward()
            meter.micro_batch()
        meter.step()  # before gradients are clipped
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

if rank == 0:
    noise = meter.result()
    print(noise)
    print(advise(N_SAMPLES, batch_size, noise, BETAS, n_epochs=N_EPOCHS, reference_batch_size=64))
dist.destroy_process_group()
