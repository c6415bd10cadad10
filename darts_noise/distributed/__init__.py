"""Training with several processes: communication, and checks that the processes agree.

Call every function in all processes. With one process, the functions do nothing. They use the
default group of torch.distributed, which Lightning's strategy ``ddp`` opens.
"""
