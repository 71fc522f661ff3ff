# fish completion for dkms. `dkms complete` prints one candidate per line, optionally followed by a tab and a description;
# `:files` and `:directories` request file name completion.

function __dkms_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in (/usr/sbin/dkms complete -- $words[2..] "$current" 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path "$current"
            case :directories
                __fish_complete_directories "$current"
            case '*'
                echo $line
        end
    end
end

complete -c dkms -f -a '(__dkms_complete)'
