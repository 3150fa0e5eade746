# SPDX-License-Identifier: GPL-3.0-or-later
# bash completion of mandos-ctl(8)
_mandos_ctl()
{
    local word=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD-1]} command='' words='' each
    COMPREPLY=()
    # "=" is a word of its own.
    if [[ $word == = ]]; then
        word=
    elif [[ $option == = ]]; then
        option=${COMP_WORDS[COMP_CWORD-2]}
    fi
    # Only the first word can be a command.
    if (( COMP_CWORD > 1 )); then
        command=${COMP_WORDS[1]}
    fi
    case $command:$option in
        wait:-f|wait:--for)
            words='waiting granted refused checked expired disabled enabled removed'
            mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
            return ;;
        events:-x|events:--exec)
            mapfile -t COMPREPLY < <(compgen -c -- "$word")
            return ;;
        *:-s|*:--secret|metrics:-o|metrics:--output|diff:diff|restore:*)
            if [[ $word != -* ]]; then
                compopt -o filenames 2>/dev/null
                mapfile -t COMPREPLY < <(compgen -f -- "$word")
                return
            fi ;;
        *:-t|*:--timeout|*:--extended-timeout|*:-i|*:--interval|*:--approval-delay|*:--approval-duration|*:-c|*:--checker|*:-H|*:--host)
            return ;;
    esac
    case $command in
        diff|status|verify) words='--help --debug' ;;
        events) words='--help --debug --json --exec' ;;
        metrics) words='--help --debug --output' ;;
        restore) words='--help --debug --enable' ;;
        wait) words='--help --debug --timeout --for' ;;
        *)
            command=
            words='--help --version --all --verbose --dump-json --enable --disable --bump-timeout
                --start-checker --stop-checker --is-enabled --remove --checker --timeout
                --extended-timeout --interval --approve-by-default --deny-by-default
                --approval-delay --approval-duration --host --secret --approve --deny --debug
                --check' ;;
    esac
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
        return
    fi
    case $command in
        diff|restore|status|metrics) return ;;
    esac
    if (( COMP_CWORD == 1 )); then
        mapfile -t COMPREPLY < <(compgen -W 'diff events metrics restore status verify wait' -- "$word")
    fi
    # A name may hold blanks and what the shell would expand, so it is compared and quoted by hand.
    while read -r each; do
        if [[ $each == "$word"* ]]; then
            COMPREPLY+=("$(printf %q "$each")")
        fi
    done < <("${COMP_WORDS[0]}" --dump-json 2>/dev/null | sed -n 's/^        "Name": "\(.*\)",$/\1/p')
} && complete -F _mandos_ctl mandos-ctl
