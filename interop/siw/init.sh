#!/bin/busybox sh
# First process of the siw guest. The kernel command line may hold
#   peer_module=NAME     the variant of siw to load, from /lib/siw (default siw)
# (a word that starts with "siw." would be taken for a parameter of the module)
export PATH=/bin HOME=/root TERM=dumb

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t debugfs debugfs /sys/kernel/debug
echo 1 > /proc/sys/kernel/printk
ulimit -l unlimited     # siw checks this limit itself, even for root
ulimit -c 0

module=siw
read -r line < /proc/cmdline
for word in $line; do
	case $word in
	peer_module=*) module=${word#*=} ;;
	esac
done

while read -r file; do
	insmod "$file" 2> /dev/null     # crc32c-intel refuses plain processors: crc32c-generic serves
done < /etc/boot-modules
insmod "/lib/siw/$module.ko"

hostname siw
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
rdma link add siw0 type siw netdev eth0

export LD_PRELOAD=/bin/linebuffer.so
agent 9001
unset LD_PRELOAD

if [ -e /sys/class/infiniband/siw0 ]; then
	echo "PEER-READY $module"
else
	dmesg | tail -n 20
	echo "PEER-FAILED $module"
fi
while :; do sleep 3600; done
