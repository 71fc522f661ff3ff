# Runs a scenario's commands and notes on descriptor 3 what each one did. What they say goes to descriptor 4, for people.
exec 3>&1 4>&2 >&4 </dev/null
A=$(uname -m)
trap 'echo "a line of preparation failed" >&4; exit 97' EXIT

command_is() {
    set +e
    printf '@ %s\n' "$1" >&3
    printf '\n$ %s\n' "$1" >&4
    ( set +e; trap - EXIT; exec 3>&-; eval "$1" ) >/tmp/.said 2>&4
    local code=$?
    cat /tmp/.said >&4
    printf 'exit %s\n' "$code" >&3
    case $1 in
        "dkms status"* | "dkms"*" status"* | "setpriv "*"dkms status"* | "ours status"* | "theirs status"*) sed 's/^/status /' /tmp/.said >&3 ;;
    esac
    rm -f /tmp/.said
    look >&3
    set -e
}

# The registry without ours beyond it; what a build directory holds is nobody's interface.
look() {
    find /var/lib/dkms/ -mindepth 1 \( -path /var/lib/dkms/.dkms-rs -o -path '*/build/*' ! -name make.log \) -prune -o \
        -printf 'tree %P %y %l\n' 2>/dev/null
    find /usr/src -mindepth 1 -name 'linux-*' -prune -o -printf 'src %P %y %l\n'
    find /lib/modules/ -mindepth 2 \( -name 'modules.*' -o -name build -o -name source \) -prune -o \
        -printf 'modules %P %y %l\n'
    find /lib/modules/ -name '*.ko*' ! -path '*/build/*' | while read -r file; do
        name=${file#/lib/modules/}
        modinfo "$file" 2>&1 | sed -nE "s#^(name|version|vermagic|srcversion|signer|sig_hashalgo|modinfo): *(.*)#modules $name \1=\2#p"
    done
    for index in /lib/modules/*/modules.dep; do
        sed "s|^|modules ${index#/lib/modules/} |" "$index"
    done
}

the_end() {
    trap - EXIT
    echo @end >&3
}
