"""What an error advises in the screen: keys, commands and dialogs, never an option of the shell."""

from collections.abc import Collection

from qwenchat.errors import QwenchatError, RecoveryKind
from qwenchat.i18n import _, sentences
from qwenchat.runtime import recoveries


def advice(error: QwenchatError, *, offered: Collection[RecoveryKind] = ()) -> str:
    """Return the hint of an error and its recoveries, without those that are `offered` as buttons beside it."""
    ways = {kind: way for kind, way in _ways().items() if kind not in offered}
    return recoveries.advice(error, ways)


def words(error: QwenchatError) -> str:
    """Return what is wrong and what to do as one line."""
    return sentences(error.message, advice(error))


def _ways() -> dict[RecoveryKind, str]:
    """Return how the recoveries are done that the screen has."""
    models, settings, chat = "Ctrl+O", "F2", "Ctrl+T"
    return {
        RecoveryKind.SMALLER_CONTEXT: chat,
        RecoveryKind.LARGER_CONTEXT: chat,
        RecoveryKind.FEWER_LAYERS: settings,
        RecoveryKind.WITHOUT_GPU: settings,
        RecoveryKind.WITHOUT_PEERS: settings,
        RecoveryKind.SMALLER_KV_CACHE: settings,
        RecoveryKind.OTHER_MODEL: models,
        RecoveryKind.DOWNLOAD: models,
        RecoveryKind.LIST_MODELS: models,
        RecoveryKind.LIST_CATALOGUE: models,
        RecoveryKind.RECOMMEND: models,
        RecoveryKind.START_AGAIN: _("ask again"),
        RecoveryKind.RESTORE: "/trash",
        RecoveryKind.USE_MODEL: "/model {name}",
        RecoveryKind.RESUME_DOWNLOAD: "/downloads",
        RecoveryKind.OTHER_SOURCE: settings,
        RecoveryKind.OTHER_FOLDER: settings,
        RecoveryKind.LIST_SESSIONS: "Ctrl+B",
        RecoveryKind.ASK_AGAIN: "Ctrl+R",
        RecoveryKind.LIST_SETTINGS: settings,
        RecoveryKind.RECOVER_STORE: _("quit with Ctrl+Q, then follow the page on troubleshooting"),
    }
