"""A plain PyTorch loop with one backward pass a step: half of a batch, once in 16 steps, measures the noise scale.

python examples/plain_loop.py
"""

import torch
from torch import nn

from adam_minibatch_noise.advice import advise
from adam_minibatch_noise.noise_scale import NoiseScaleMeter

N_SAMPLES, BATCH_SIZE, N_EPOCHS, BETAS = 4096, 128, 20, (0.9, 0.999)

torch.manual_seed(0)
inputs = torch.randn(N_SAMPLES, 20)
targets = (inputs[:, :5].sum(1) + torch.randn(N_SAMPLES) > 0).long()  # noisy labels
model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=BETAS)
loss_of = nn.CrossEntropyLoss()

meter = NoiseScaleMeter(model, batch_size=BATCH_SIZE, n_samples=N_SAMPLES)
for _ in range(N_EPOCHS):
    for chosen in torch.randperm(N_SAMPLES).split(BATCH_SIZE):
        x, y = inputs[chosen], targets[chosen]
        meter.half_batch(lambda half, x=x, y=y: loss_of(model(x[half]), y[half]))
        optimizer.zero_grad()
        loss_of(model(x), y).backward()
        meter.step()
        optimizer.step()

noise = meter.result()
print(noise)
print(advise(N_SAMPLES, BATCH_SIZE, noise, BETAS, lr=3e-4, n_epochs=N_EPOCHS))
