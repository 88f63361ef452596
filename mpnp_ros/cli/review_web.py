"""A page in the browser to review recorded answers: images, the question, the choices as buttons."""
from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from mpnp_ros.bags.labels import PERSON
from mpnp_ros.cli.recording import LIKELY
from mpnp_ros.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from flask import Flask

    from mpnp_ros.cli.recording import RecordedAnswer, Recording

HERE, NAMES, WILDCARDS = '127.0.0.1', ('localhost', '127.0.0.1', '[::1]'), ('0.0.0.0', '::')
QUIET = 1.
"""Seconds after which a connection without a request is closed."""
SKIP = ''
"""Value of the button that says that a question cannot be answered."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ folder }}: review</title>
<style>
body { font: 16px/1.4 sans-serif; margin: 1em auto; max-width: 80em; padding: 0 1em }
.images { display: grid; grid-template-columns: repeat(auto-fit, minmax(20em, 1fr)); gap: .5em }
img { width: 100% } figure { margin: 0 } figcaption, pre { color: #555; font-size: .85em }
pre { white-space: pre-wrap } button { font-size: 1em; margin: .15em; padding: .4em .8em }
button.robot { border: 3px solid #197a3d } progress { width: 100% }
</style></head><body>
<progress value="{{ done }}" max="{{ total }}"></progress>
<p>{{ done }} of {{ total }} reviewed{% if answer %}, number {{ number + 1 }}
{% if number %}<a href="{{ url_for('show', number=number - 1) }}">back</a>{% endif %}{% endif %}</p>
{% if not answer %}<h1>All answers are reviewed.</h1>
{% else %}
<h1>{{ answer.question }}</h1>
<form method="post" action="{{ url_for('judge', number=number) }}">
<input type="hidden" name="token" value="{{ token }}">
<p>{% for choice, odds in likely %}<button name="answer" value="{{ choice }}"
{%- if choice == answer.text %} class="robot" autofocus{% endif %}>{{ choice }} ({{ '%.2f' % odds }})</button>
{% endfor %}<button name="answer" value="{{ skip }}">cannot be told</button></p>
<p>{% for choice in others %}<button name="answer" value="{{ choice }}">{{ choice }}</button>
{% endfor %}</p></form>
{% if label %}<p>{{ label.by }} said: {{ label.answer or 'cannot be told' }}</p>{% endif %}
<div class="images">{% for name, later in pictures %}<figure>
<a href="{{ url_for('image', name=name) }}"><img src="{{ url_for('image', name=name) }}" alt="{{ name }}"></a>
<figcaption>{{ name }}{% if later | abs >= 0.05 %} ({{ '%+.1f' % later }} s){% endif %}</figcaption>
</figure>{% endfor %}</div>
<pre>{{ answer.rests }}</pre>
{% endif %}</body></html>"""


def create_app(recording: Recording, limit: int = 0, host: str = HERE) -> Flask:
    """Return the application of a recording; limit: number of answers to review, 0: all.

    Judgements need the token of the page, and requests the name of this machine or `host`, unless that is a
    wildcard: so no other web page can read the page or judge.  Raises ConfigurationError without Flask.
    """
    try:
        import flask
    except ImportError:
        raise ConfigurationError('Flask is not installed; run `make install`, on a robot `apt install '
                                 'python3-flask`, or review without --web') from None
    app, token = flask.Flask(__name__), secrets.token_urlsafe()
    answers = recording.to_review()[:limit or None]

    @app.before_request
    def check_name() -> None:
        named = flask.request.host
        if host not in WILDCARDS and not {named, named.rpartition(':')[0]} & {host, *NAMES}:
            flask.abort(403)

    def is_judged(place: int) -> bool:
        label = recording.labels.get(answers[place].asked)
        return label is not None and label.by == PERSON

    def page(**parts: Any) -> str:
        done = sum(map(is_judged, range(len(answers))))
        return flask.render_template_string(PAGE, folder=recording.folder.name, total=len(answers),
                                            token=token, done=done, skip=SKIP, **parts)

    @app.get('/')
    def following() -> Any:
        number = next((place for place in range(len(answers)) if not is_judged(place)), None)
        return page(answer=None) if number is None else flask.redirect(flask.url_for('show', number=number))

    @app.get('/answers/<int:number>')
    def show(number: int) -> str:
        if number >= len(answers):
            flask.abort(404)
        return page(number=number, **shown(recording, answers[number]))

    @app.post('/answers/<int:number>')
    def judge(number: int) -> Any:
        said = flask.request.form.get('answer')
        if number >= len(answers):
            flask.abort(404)
        if not secrets.compare_digest(flask.request.form.get('token', ''), token):
            flask.abort(403)
        if said is None or said not in (SKIP, *answers[number].choices):
            flask.abort(400)
        try:
            recording.labels.add([answers[number].label(said, PERSON)])
        except StorageError as error:
            return str(error), 507, {'Content-Type': 'text/plain; charset=utf-8'}
        return flask.redirect(flask.url_for('following'))

    @app.get('/images/<name>')
    def image(name: str) -> Any:
        return flask.send_from_directory(recording.images.resolve(), name)

    return app


def shown(recording: Recording, answer: RecordedAnswer) -> dict[str, Any]:
    """Return what the page shows of an answer."""
    ordered = sorted(answer.choices, key=lambda choice: -answer.probabilities.get(choice, 0.))
    return {'answer': answer, 'label': recording.labels.get(answer.asked),
            'likely': [(choice, answer.probabilities.get(choice, 0.)) for choice in ordered[:LIKELY]],
            'others': [choice for choice in answer.choices if choice not in ordered[:LIKELY]],
            'pictures': [(path.name, later) for path, later in recording.pictures(answer.stamp_ns)]}


def serve(recording: Recording, limit: int, host: str, port: int) -> None:
    """Serve the page until Ctrl-C.  Raises ConfigurationError where the port cannot be used."""
    app = create_app(recording, limit, host)
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        """Closes connections that say nothing, which browsers open in advance."""

        timeout = QUIET

    try:  # one thread reads the recording
        server = make_server(host, port, app, threaded=False, request_handler=Handler)
    except (OSError, SystemExit) as error:
        raise ConfigurationError(f'no page can be served on {host}:{port} ({error}); choose another --port'
                                 ) from None
    print(f'review on http://{host}:{server.server_port}/, Ctrl-C ends', flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
