#!/bin/sh
# A script that starts curl: the layer must follow through fork and exec, twice.
for probe; do
	set -- $probe
	case $1 in
	get) result=$(curl -sS --max-time 10 "$2" 2>&1 | head -n 1) ;;
	lookup) result=$(getent ahosts "$2" | cut -d' ' -f1 | sort -u | head -n 1); : "${result:=no such name}" ;;
	connect)
		case $2 in *:*) host="[$2]" ;; *) host=$2 ;; esac
		result=$(curl -v -o /dev/null --max-time 10 -w '%{stderr}ok from %{local_ip}:%{local_port} to %{remote_ip}:%{remote_port}\n' "http://$host:$3/" 2>&1)
		case $result in
		*"Connection refused"*) result=ECONNREFUSED ;;
		*"No route to host"*) result=EHOSTUNREACH ;;
		*"Connection timed out"*) result=ETIMEDOUT ;;
		*) result=$(echo "$result" | grep -o 'ok from.*' | sed -E 's/ ([^ ]*:[^ ]*:[^ ]*):([0-9]+)/ [\1]:\2/g') ;;
		esac
		;;
	esac
	echo "$probe: $result"
done
