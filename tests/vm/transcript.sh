# What an administrator sees: run in the virtual machine, for deploy/README.md.
show() { printf '\n# %s\n' "$1"; eval "$1" 2>&1; }
useradd -m alice
until ktask status | grep -q 'helper.*idle slice\|idle slice'; do sleep 1; done >/dev/null 2>&1
export PATH="$PATH:/vm"
show 'adduser --quiet alice ktask'
show 'ktask status | sed -n "/^pool node0/,\$d; p" | head -20'
show 'ktask status | grep -A 3 "^pool node1"'
show 'runuser -u alice -- ktask run file.crc32 data=/usr/bin/python3.11'
show "grpcurl -plaintext -unix -d '{\"spec\": {\"function\": \"file.crc32\", \"sources\": {\"data\": {\"path\": \"/usr/bin/python3.11\"}}}}' /run/ktaskd/ktaskd.sock ktask.v1.Jobs/Run | grep -v '^      '"
show 'systemctl status ktaskd ktaskd-helpers --no-pager --lines 0 | grep -v "^$"'
show 'journalctl -u ktaskd -o short --no-pager --no-hostname | tail -4'
show 'journalctl KTASKD_EVENT=job_ended KTASKD_UID=1000 -o json --output-fields=MESSAGE,KTASKD_JOB,KTASKD_UID,KTASKD_NID,KTASKD_STATE --no-pager | tail -1'
