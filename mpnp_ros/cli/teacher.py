"""A vision model behind an OpenAI-style chat endpoint answers recorded questions by their images."""
from __future__ import annotations

import base64
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from mpnp_ros.bags.labels import ROBOT, TEACHER
from mpnp_ros.cli.recording import RecordedAnswer, Recording, most_uncertain_first
from mpnp_ros.errors import ConfigurationError, ImageError, NotAnsweringError

UNKNOWN = 'unknown'
SYSTEM = (
    'You look at images of one moment, taken by the cameras of a robot or a car, and answer one question '
    'about what is around it. "Me" is the robot. Front means within 30 degrees of straight ahead; front '
    'left, back left, back, back right and front right are the other sixths of the circle. Count things '
    'within 30 metres. Reply with exactly one of the allowed answers and nothing else, or with unknown where '
    'the images do not tell.')
WIDTH, QUALITY, MAX_TOKENS = 1024, 85, 32
"""Width in pixels to which images are shrunk, their JPEG quality, and the longest reply in tokens."""
TRIES, PAUSE = 4, 1.
"""Number of attempts, and seconds before the second one, doubled each time."""
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}
"""HTTP states after which a request is repeated."""


class Teacher:
    """A vision model at an endpoint such as those of llama.cpp, Ollama, vLLM and llama_ros.

    url: of the API, such as http://localhost:11434/v1.  model: its name there.  timeout: seconds for a reply.
    """

    def __init__(self, url: str, model: str = '', timeout: float = 120.) -> None:
        """model: empty: the one that the endpoint lists.

        Raises ConfigurationError for a malformed URL, and where the endpoint lists not exactly one model;
        NotAnsweringError where there is none.
        """
        if not re.match(r'https?://[^/]', url):
            raise ConfigurationError(f'teacher {url}: give the URL of an API, such as '
                                     'http://localhost:11434/v1')
        self.url, self._timeout = url.rstrip('/').removesuffix('/chat/completions'), timeout
        self.model = model or self._only_model()

    def answer(self, question: str, choices: Sequence[str],
               images: Sequence[tuple[str, bytes]]) -> str | None:
        """Return one of the choices, an empty text where the images do not tell, or None for another reply.

        images: JPEG files with their names.  Raises NotAnsweringError where the endpoint does not reply.
        """
        content: list[dict[str, Any]] = []
        for name, file in images:
            data = base64.b64encode(file).decode()
            content += [{'type': 'text', 'text': f'{name}:'},
                        {'type': 'image_url', 'image_url': {'url': f'data:image/jpeg;base64,{data}'}}]
        content.append({'type': 'text', 'text': f'{question}\nAllowed answers: {", ".join(choices)}'})
        reply = self._request('chat/completions', {
            'model': self.model, 'temperature': 0, 'max_tokens': MAX_TOKENS, 'messages': [
                {'role': 'system', 'content': SYSTEM}, {'role': 'user', 'content': content}]})
        try:
            text = reply['choices'][0]['message']['content']
            return chosen(text, choices) if isinstance(text, str) else None
        except (KeyError, IndexError, TypeError):
            raise NotAnsweringError(f'teacher {self.url}: the reply is not that of a chat endpoint: '
                                    f'{str(reply)[:200]}') from None

    def _only_model(self) -> str:
        """Return the name of the only model of the endpoint."""
        listed = self._request('models')
        try:
            names = [str(entry['id']) for entry in listed['data']]
        except (KeyError, TypeError):
            names = []
        if len(names) != 1:
            raise ConfigurationError(f'teacher {self.url} lists {len(names)} models '
                                     f'({", ".join(names[:10])}); choose one with --model')
        return names[0]

    def _request(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the JSON reply to a request, which is repeated where that may help."""
        request = urllib.request.Request(
            f'{self.url}/{path}', None if body is None else json.dumps(body).encode(),
            {'Content-Type': 'application/json'})
        why = ''
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            try:
                with urllib.request.urlopen(request, timeout=self._timeout) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                why = f'{error.code} {error.reason}'
                with suppress(OSError, http.client.HTTPException):
                    why += f': {error.read(300).decode(errors="replace").strip()}'
                if error.code not in AGAIN:
                    raise ConfigurationError(f'teacher {self.url} refuses: {why}; check --teacher and '
                                             '--model') from None
            except TimeoutError:
                why = f'no reply within {self._timeout:g} s'
            except urllib.error.URLError as error:
                why = str(error.reason)
            except (OSError, ValueError, http.client.HTTPException) as error:  # it broke off, or is not JSON
                why = f'{type(error).__name__}: {error}'
        raise NotAnsweringError(f'teacher {self.url} does not answer after {TRIES} attempts: {why}; start '
                                'it, or give a longer --timeout')


def chosen(reply: str, choices: Sequence[str]) -> str | None:
    """Return the choice that a reply is, an empty text for "unknown", None for any other reply.

    Case, punctuation and "the answer is" do not matter.  A sentence is no answer: "no" in "There is no way to
    know" is not meant.
    """
    def plain(text: str) -> str:
        return ' '.join(re.findall(r'[a-z0-9]+', text.lower()))

    said = re.sub(r'^(the )?answer (is )?', '', plain(reply))
    found = [choice for choice in (*choices, UNKNOWN) if plain(choice) == said]
    if not found:
        return None
    return '' if found[0] == UNKNOWN and UNKNOWN not in choices else found[0]


def shrunk(path: Path) -> bytes:
    """Return an image as a JPEG file of at most WIDTH pixels.  Raises ImageError."""
    from mpnp_ros.modalities.camera.images import ImageFile, decode

    image = decode(ImageFile(path.read_bytes()), (WIDTH, WIDTH)).image
    image.thumbnail((WIDTH, WIDTH))
    file = BytesIO()
    image.convert('RGB').save(file, 'JPEG', quality=QUALITY)
    return file.getvalue()


def teach(recording: Recording, teacher: Teacher, limit: int, show: Callable[[int, int, str], None],
          cancelled: Callable[[], bool]) -> str:
    """Let a teacher answer what neither it nor a person has, and return in words what came of it.

    limit: number of questions; 0: all.  Every label is written at once, so that the next run goes on.
    """
    left = [answer for answer in recording.answers
            if (label := recording.labels.get(answer.asked)) is None or label.by == ROBOT]
    asked = most_uncertain_first(left)[:limit or None]
    labelled = untold = unclear = unseen = 0
    for place, answer in enumerate(asked):
        if cancelled():
            break
        images = images_of(recording, answer)
        said = teacher.answer(answer.question, answer.choices, images) if images else None
        if not images:
            unseen += 1
        elif said is None:
            unclear += 1
        else:
            recording.labels.add([answer.label(said, TEACHER)])
            labelled, untold = labelled + bool(said), untold + (not said)
        show(place + 1, len(asked), f'{labelled} labels')
    counts = ((labelled, 'answered'), (untold, 'cannot be told'), (unclear, 'replies named no single answer'),
              (unseen, 'moments had no readable image'))
    return f'{teacher.model}: ' + (', '.join(f'{count} {name}' for count, name in counts if count) or
                                   'nothing is left to ask')


def images_of(recording: Recording, answer: RecordedAnswer) -> list[tuple[str, bytes]]:
    """Return the readable images of the moment of an answer, with their names."""
    images = []
    for path, _ in recording.pictures(answer.stamp_ns):
        try:
            images.append((path.stem.partition('_')[2].replace('_', ' '), shrunk(path)))
        except ImageError:
            continue
    return images
