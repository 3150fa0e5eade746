# SPDX-License-Identifier: GPL-3.0-or-later
# bash completion of mandos-ctl(8)
_mandos_ctl()
{
    local word=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD-1]} command='' words='' each at=1
    COMPREPLY=()
    # "=" is a word of its own.
    if [[ $word == = ]]; then
        word=
    elif [[ $option == = ]]; then
        option=${COMP_WORDS[COMP_CWORD-2]}
    fi
    # Only the first word can be a command, or the first after servers.
    while [[ ${COMP_WORDS[at]-} == --server || ${COMP_WORDS[at]-} == --server-timeout ]]; do
        if [[ ${COMP_WORDS[at+1]-} == = ]]; then
            (( at += 1 ))
        fi
        (( at += 2 ))
    done
    if (( COMP_CWORD > at )); then
        command=${COMP_WORDS[at]}
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
        *:--server)
            # The names that ssh has been given.
            words=$(sed -n 's/^[[:space:]]*[Hh]ost[[:space:]=]*//p' ~/.ssh/config 2>/dev/null | tr -d '*?!')
            mapfile -t COMPREPLY < <(compgen -W ".host $words" -- "$word")
            return ;;
        *:--server-timeout|events:-k|*:--kill-after|*:-t|*:--timeout|*:--extended-timeout|*:-i|*:--interval|*:--approval-delay|*:--approval-duration|*:-c|*:--checker|*:-H|*:--host)
            return ;;
    esac
    case $command in
        diff|status|verify) words='' ;;
        events) words='--json --exec --kill-after' ;;
        metrics) words='--output' ;;
        restore) words='--enable' ;;
        wait) words='--timeout --for' ;;
        *)
            command=
            words='--version --all --verbose --dump-json --enable --disable --bump-timeout
                --start-checker --stop-checker --is-enabled --remove --checker --timeout
                --extended-timeout --interval --approve-by-default --deny-by-default
                --approval-delay --approval-duration --host --secret --approve --deny
                --check' ;;
    esac
    words+=' --help --debug --server --server-timeout'
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
        return
    fi
    case $command in
        diff|restore|status|metrics) return ;;
    esac
    if (( COMP_CWORD == at )); then
        mapfile -t COMPREPLY < <(compgen -W 'diff events metrics restore status verify wait' -- "$word")
    fi
    # Other machines are not asked meanwhile. A name may hold blanks and what the shell would expand, so it is compared and quoted by hand.
    while read -r each; do
        if [[ $each == "$word"* ]]; then
            COMPREPLY+=("$(printf %q "$each")")
        fi
    done < <(MANDOS_SERVERS='' "${COMP_WORDS[0]}" --dump-json 2>/dev/null | sed -n 's/^        "Name": "\(.*\)",$/\1/p')
} && complete -F _mandos_ctl mandos-ctl
