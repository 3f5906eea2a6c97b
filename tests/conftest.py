from hrpose_cli.nets.hrnet import NetConfig

TINY = NetConfig(width=4, modules=(1, 1, 1), blocks=1, bottlenecks=1)
