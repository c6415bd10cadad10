"""One training by several processes: what they tell each other, and that they stay alike.

Everything here does the same in each of the processes, or nothing where there is one only. It rests
on torch.distributed's default group, which Lightning's strategy ``ddp`` opens.
"""
