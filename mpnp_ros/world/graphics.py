"""The graphics card, or Mesa's software in its place: context, models in its memory, frames to draw into."""
from __future__ import annotations

from dataclasses import dataclass

import moderngl
import numpy as np

from mpnp_ros.errors import WorldError
from mpnp_ros.world import shaders
from mpnp_ros.world.ground import ground_mesh
from mpnp_ros.world.instances import Instances
from mpnp_ros.world.materials import COLOUR, GLOSS
from mpnp_ros.world.mesh import Mesh
from mpnp_ros.world.models import ModelKey, model_of
from mpnp_ros.world.state import Scenery

SHADOW_MAP_SIZE = 1536
_ROW_BYTES = 64
_ROWS = 'row0', 'row1', 'row2'


def open_context() -> moderngl.Context:
    """An OpenGL context without a window.  Raises WorldError where there is none to be had."""
    try:
        return moderngl.create_context(standalone=True, require=330, backend='egl')
    except Exception as error:  # whatever glcontext raises on this platform
        raise WorldError(f'cameras of the world need OpenGL 3.3 through EGL ({error}); '
                         'apt install libegl1 libgl1-mesa-dri') from None


@dataclass(frozen=True)
class Programs:
    """The compiled shaders."""

    model: moderngl.Program
    shadow: moderngl.Program
    sky: moderngl.Program
    blur: moderngl.Program
    develop: moderngl.Program

    @classmethod
    def compile(cls, context: moderngl.Context) -> Programs:
        """Compile all of them and set what never changes."""
        def program(vertex: str, fragment: str) -> moderngl.Program:
            return context.program(vertex_shader=vertex, fragment_shader=fragment)

        programs = cls(program(shaders.MODEL_VERTEX, shaders.MODEL_FRAGMENT),
                       program(shaders.SHADOW_VERTEX, shaders.SHADOW_FRAGMENT),
                       *(program(shaders.SCREEN_VERTEX, fragment) for fragment in
                         (shaders.SKY_FRAGMENT, shaders.BLUR_FRAGMENT, shaders.DEVELOP_FRAGMENT)))
        programs.model['substances'].write(np.column_stack([COLOUR, GLOSS]).astype('f4').tobytes())
        programs.model['shadow_map'].value = 0
        programs.blur['source'].value = 0
        programs.develop['scene'].value, programs.develop['halo'].value = 0, 1
        return programs


def write(program: moderngl.Program, **values: object) -> None:
    """Set uniforms; arrays are matrices [rows, columns]."""
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            program[name].write(np.ascontiguousarray(value.T, 'f4').tobytes())
        else:
            program[name].value = value


class Model:
    """A mesh in graphics memory, to be drawn many times at once."""

    def __init__(self, context: moderngl.Context, programs: Programs, mesh: Mesh) -> None:
        self._context = context
        rows = np.column_stack([mesh.vertices, mesh.normals, mesh.vertex_material]).astype('f4')
        self._vertices, self._faces = context.buffer(rows.tobytes()), context.buffer(mesh.faces.astype('i4').tobytes())
        self._instances = context.buffer(reserve=64 * _ROW_BYTES, dynamic=True)
        self._programs = programs
        low, high = mesh.bounds
        self.extent = np.maximum(np.abs(low), np.abs(high))
        self._link()

    def _link(self) -> None:
        def array(program: moderngl.Program, vertex: tuple[str, ...], instance: tuple[str, ...]) -> moderngl.VertexArray:
            return self._context.vertex_array(program, [(self._vertices, *vertex), (self._instances, *instance)],
                                              self._faces)

        self._lit = array(self._programs.model, ('3f 3f 1f', 'position', 'facing', 'substance'),
                          ('4f 4f 4f 4f/i', *_ROWS, 'paint'))
        self._shadow = array(self._programs.shadow, ('3f 16x', 'position'), ('4f 4f 4f 16x/i', *_ROWS))

    def draw(self, rows: np.ndarray, shadow: bool = False) -> None:
        """Draw it at every row of :data:`~mpnp_ros.world.instances.Instances`."""
        if not len(rows):
            return
        if rows.nbytes > self._instances.size:
            self._instances.orphan(2 * rows.nbytes)
        self._instances.write(np.ascontiguousarray(rows, 'f4').tobytes())
        (self._shadow if shadow else self._lit).render(instances=len(rows))

    def release(self) -> None:
        """Give the memory back."""
        for thing in (self._lit, self._shadow, self._vertices, self._faces, self._instances):
            thing.release()


class ModelShelf:
    """Every model that was ever needed, and the ground of one scenery."""

    def __init__(self, context: moderngl.Context, programs: Programs) -> None:
        self._context, self._programs = context, programs
        self._models: dict[ModelKey, Model] = {}
        self._ground: tuple[Scenery, Model] | None = None

    def model(self, key: ModelKey) -> Model:
        """The model of a key."""
        if key not in self._models:
            self._models[key] = Model(self._context, self._programs, model_of(*key))
        return self._models[key]

    def ground(self, scenery: Scenery) -> Model:
        """The ground of a scenery; that of another one is forgotten."""
        if self._ground is None or self._ground[0] is not scenery:
            if self._ground:
                self._ground[1].release()
            self._ground = scenery, Model(self._context, self._programs, ground_mesh(scenery))
        return self._ground[1]

    def radii(self, instances: Instances) -> dict[ModelKey, np.ndarray]:
        """Metres [N] from each instance's origin within which it lies."""
        return {key: np.linalg.norm(np.linalg.norm(rows[:, :12].reshape(-1, 3, 4)[:, :, :3], axis=1)
                                    * self.model(key).extent, axis=1) for key, rows in instances.items()}


class Film:
    """What one image is drawn into: linear light with depth, and two small frames for the halos of lamps.

    width, height: pixels of the image; `supersampling` times as many are drawn along both axes.
    """

    def __init__(self, context: moderngl.Context, width: int, height: int, supersampling: int) -> None:
        size = width * supersampling, height * supersampling
        self.light = context.texture(size, 4, dtype='f2')
        self.frame = context.framebuffer([self.light], context.depth_renderbuffer(size))
        small = max(width // 4, 1), max(height // 4, 1)
        self.halos = [context.texture(small, 4, dtype='f2') for _ in range(2)]
        for texture in (self.light, *self.halos):
            texture.repeat_x = texture.repeat_y = False
        self.halo_frames = [context.framebuffer([halo]) for halo in self.halos]


def shadow_frame(context: moderngl.Context) -> tuple[moderngl.Texture, moderngl.Framebuffer]:
    """A depth map to draw shadows into and to compare with."""
    depth = context.depth_texture((SHADOW_MAP_SIZE, SHADOW_MAP_SIZE))
    depth.compare_func = '<='
    return depth, context.framebuffer(depth_attachment=depth)
