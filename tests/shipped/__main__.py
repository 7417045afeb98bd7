"""Write the files."""

from tests.shipped import made

for path, text in made().items():
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        print(path)
