import torch

torch.set_num_threads(1)  # the suite runs in as many processes as there are cores
