"""The tools that come with the program, one module each. They need no server and no program beside this one."""

from qwenchat.config import ToolSettings
from qwenchat.tools.builtin.calculator import Calculator
from qwenchat.tools.builtin.date_time import DateTime, DaysBetween
from qwenchat.tools.builtin.folders import Folders
from qwenchat.tools.builtin.list_files import ListFiles
from qwenchat.tools.builtin.read_file import ReadFile
from qwenchat.tools.builtin.search_chats import FindInChats, SearchChats
from qwenchat.tools.builtin.search_documents import FindInDocuments, SearchDocuments
from qwenchat.tools.builtin.search_files import SearchFiles
from qwenchat.tools.tool import Tool


def builtin_tools(
    settings: ToolSettings,
    *,
    find_in_chats: FindInChats | None,
    find_in_documents: FindInDocuments | None = None,
    offline: bool,
) -> list[Tool]:
    """Return the tools that the settings allow for; `offline`: none that opens a network connection."""
    tools: list[Tool] = [Calculator(), DateTime(), DaysBetween()]
    if settings.folders:
        folders = Folders(settings.folders)
        tools += [ReadFile(folders), ListFiles(folders), SearchFiles(folders)]
    if find_in_chats:
        tools.append(SearchChats(find_in_chats))
    if find_in_documents:
        tools.append(SearchDocuments(find_in_documents))
    if settings.fetch and not offline:
        from qwenchat.tools.builtin.fetch_page import FetchPage  # noqa: PLC0415 - few switch it on

        tools.append(FetchPage())
    return tools
