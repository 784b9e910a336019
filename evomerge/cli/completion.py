"""`evomerge completion`: a script for the shell that completes commands, options, tasks and Hydra's overrides."""

import argparse

from evomerge.cli.words import Commands, add_command
from evomerge.errors import UsageError

EXAMPLES = """
eval "$(evomerge completion bash)"         in ~/.bashrc
eval "$(evomerge completion zsh)"          in ~/.zshrc, after compinit
evomerge completion fish > ~/.config/fish/completions/evomerge.fish
"""

# bash splits words at = and : for itself: so the line is split here, and what is before the last of these is left out
# of the answers.
BASH = r"""_evomerge() {
    local line="${COMP_LINE:0:COMP_POINT}" words word found files="" cut
    read -r -a words <<< "$line"
    [[ "$line" == *" " ]] && words+=("")
    word="${words[${#words[@]}-1]}"
    cut="${word%"${word##*[=:]}"}"
    COMPREPLY=()
    while IFS= read -r found; do
        if [[ "$found" == "<files>" ]]; then files=1; elif [[ -n "$found" ]]; then COMPREPLY+=("${found#"$cut"}"); fi
    done < <("${words[0]}" completion --words "${words[@]:1}" 2>/dev/null)
    if [[ -n "$files" ]]; then
        compopt -o filenames
        while IFS= read -r found; do COMPREPLY+=("$found"); done < <(compgen -f -- "${word#"$cut"}")
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *[=.:] ]] && compopt -o nospace
    return 0
}
complete -F _evomerge evomerge
"""

ZSH = r"""#compdef evomerge
_evomerge() {
    local -a found more done
    found=("${(@f)$("${words[1]}" completion --words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    more=(${(M)found:#*[=.:]})
    done=(${found:#*[=.:]})
    done=(${done:#<files>})
    (( ${#more} )) && compadd -S '' -- $more
    (( ${#done} )) && compadd -- $done
    (( ${found[(I)<files>]} )) && _files
}
compdef _evomerge evomerge
"""

FISH = r"""function __evomerge
    set -l words (commandline -opc) (commandline -ct)
    for found in ($words[1] completion --words $words[2..-1] 2>/dev/null)
        if test "$found" = "<files>"
            __fish_complete_path (commandline -ct)
        else
            echo $found
        end
    end
end
complete -c evomerge -f -a "(__evomerge)"
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        *(commands, "completion", run),
        help="print a script that completes commands, options and Hydra's overrides in your shell",
        examples=EXAMPLES,
    )
    parser.add_argument("shell", nargs="?", choices=list(SCRIPTS), help="whose script to print")
    parser.add_argument("--words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)  # what the scripts ask


def run(options: argparse.Namespace) -> int:
    """Print the script, or what the last of some words may become, one a line."""
    if options.words:
        from evomerge.cli.entry import build_parser
        from evomerge.cli.suggestions import suggest
        from evomerge.config import conf_dir

        _, commands = build_parser()
        print("\n".join(suggest(options.words, commands, conf_dir())))
    elif options.shell is None:
        raise UsageError("completion: for which shell? bash, zsh or fish")
    else:
        print(SCRIPTS[options.shell], end="")
    return 0
