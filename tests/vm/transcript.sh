# Commands of an administrator, run in the virtual machine for deploy/README.md.
show() { printf '\n# %s\n' "$1"; eval "$1" 2>&1; }
export PATH="$PATH:/vm"
useradd -m alice
for _ in $(seq 60); do ktask status | grep -q 'idle slice' && break; sleep 1; done
show 'adduser --quiet alice ktask'
show 'ktask status -v | head -20'
show 'ktask status -v | grep -A 3 "^pool node"'
show 'runuser -u alice -- ktask run file.crc32 data=/usr/bin/python3.11'
show 'runuser -u alice -- ktask sum /usr/bin/python3.11'
show 'runuser -u alice -- sh -c "cd && tar c /usr/lib/systemd 2>/dev/null | ktask compress > x.tar.zst; ls -l x.tar.zst"'
body='{"spec": {"function": "file.crc32", "sources": {"data": {"path": "/usr/bin/python3.11"}}}}'
show "grpcurl -plaintext -unix -d '$body' /run/ktaskd/ktaskd.sock ktask.v1.Jobs/Run"
show 'systemctl status ktaskd ktaskd-helpers --no-pager --lines 0'
show 'journalctl -u ktaskd -o short --no-pager --no-hostname | tail -4'
fields=MESSAGE,KTASKD_JOB,KTASKD_UID,KTASKD_NID,KTASKD_STATE
show "journalctl KTASKD_EVENT=job_ended -o json --output-fields=$fields --no-pager | tail -1"
