"""Text from outside made safe, files read as text, Chinese by its pinyin."""
