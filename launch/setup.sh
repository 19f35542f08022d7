# Sourced by the other scripts: an environment in which the project is installed. Uses the active virtual environment, else
# .venv, which is made if it is not there. EXTRAS may name extras of setup.cfg, such as "dev".
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${VIRTUAL_ENV:-}" ]; then
    [ -x .venv/bin/python ] || python3 -m venv .venv
    source .venv/bin/activate
fi
wanted="$(pwd -P) $(cksum < setup.cfg)"
if ! grep -qsxF "$wanted" "$VIRTUAL_ENV/.guidance-installed${EXTRAS:+-$EXTRAS}"; then
    echo "installing into $VIRTUAL_ENV (the first time this takes a minute or two)"
    # torch and torchvision together: separately, pip may pair a torchvision with a torch that it was not built for.
    python -m pip install --quiet --disable-pip-version-check torch torchvision -e ".${EXTRAS:+[$EXTRAS]}"
    # An installation with extras serves those who ask for none, too.
    for name in "" ${EXTRAS:+-$EXTRAS}; do echo "$wanted" > "$VIRTUAL_ENV/.guidance-installed$name"; done
fi
