"""The advice of an error: its hint, then each recovery by name with how it is done where the user is.

The names are the same everywhere. The options of the shell are in `cli.output`, the keys of the screen in `tui.advice`.
"""

from collections.abc import Callable, Mapping

from qwenchat.errors import QwenchatError, RecoveryKind
from qwenchat.i18n import _, labelled, sentences


def names() -> dict[RecoveryKind, str]:
    """Return what each recovery is called."""
    return {
        RecoveryKind.START_AGAIN: _("Restart the model"),
        RecoveryKind.SMALLER_CONTEXT: _("Use a smaller context"),
        RecoveryKind.FEWER_LAYERS: _("Use fewer GPU layers"),
        RecoveryKind.WITHOUT_GPU: _("Run without the GPU"),
        RecoveryKind.WITHOUT_PEERS: _("Run without peers"),
        RecoveryKind.OTHER_MODEL: _("Choose another model"),
        RecoveryKind.LARGER_CONTEXT: _("Use a larger context"),
        RecoveryKind.SMALLER_KV_CACHE: _("Use a smaller KV cache"),
        RecoveryKind.LOAD_ANYWAY: _("Load it anyway"),
        RecoveryKind.COMPLETE: _("Continue plain text"),
        RecoveryKind.USE_MODEL: _("Use it"),
        RecoveryKind.DOWNLOAD: _("Download it"),
        RecoveryKind.RESUME_DOWNLOAD: _("Resume download"),
        RecoveryKind.OTHER_SOURCE: _("Choose another source"),
        RecoveryKind.OTHER_FOLDER: _("Choose another folder"),
        RecoveryKind.OTHER_REVISION: _("Choose another revision"),
        RecoveryKind.VERIFY: _("Verify the file"),
        RecoveryKind.DELETE_SHARED: _("Delete it there"),
        RecoveryKind.LIST_MODELS: _("Models on this computer"),
        RecoveryKind.LIST_CATALOGUE: _("Catalogue"),
        RecoveryKind.RECOMMEND: _("Recommended for this computer"),
        RecoveryKind.LIST_SESSIONS: _("All chats"),
        RecoveryKind.RESTORE: _("Restore it"),
        RecoveryKind.RECOVER_STORE: _("Save what can be read"),
        RecoveryKind.REPLACE_FILE: _("Replace the file"),
        RecoveryKind.LIST_SETTINGS: _("All settings"),
        RecoveryKind.ASK_AGAIN: _("Ask again"),
        RecoveryKind.SET_KEY: _("Set its key"),
        RecoveryKind.TEST_ENGINE: _("Test the engine"),
        RecoveryKind.ADD_ENGINE: _("Add an engine"),
    }


def advice(
    error: QwenchatError, ways: Mapping[RecoveryKind, str], written: Callable[[str], str] = lambda name: name
) -> str:
    """Return the hint of an error and its recoveries, as far as they have a way to be done.

    A way may contain `{value}` and `{name}`; `written` returns a name as it is written there.
    """
    called = names()
    steps = [
        labelled(called[each.kind], ways[each.kind].format(value=each.value, name=written(each.name)))
        for each in error.recoveries
        if each.kind in ways
    ]
    return sentences(error.hint, " · ".join(steps))
