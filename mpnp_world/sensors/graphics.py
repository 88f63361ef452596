"""OpenGL context, shader programs, models and framebuffers."""
from __future__ import annotations

import moderngl
import numpy as np

from mpnp_ros.errors import WorldError
from mpnp_world.models.lookup import ModelKey, model_of
from mpnp_world.models.mesh import COLOUR, GLOSS, Mesh
from mpnp_world.models.street import ground_mesh
from mpnp_world.scene.state import Scenery
from mpnp_world.sensors import shaders

SHADOW_MAP_SIZE = 1536
_ROW_BYTES = 64
_VERTEX = {'position': 3, 'facing': 3, 'substance': 1}
_INSTANCE = {'row0': 4, 'row1': 4, 'row2': 4, 'paint': 4}
"""Number of components of each attribute of vertices and instances."""


def open_context() -> moderngl.Context:
    """An OpenGL context without a window.  Raises WorldError if OpenGL is not available."""
    try:
        return moderngl.create_context(standalone=True, require=330, backend='egl')
    except Exception as error:  # the exceptions of glcontext depend on the platform
        raise WorldError(f'cameras of the world need OpenGL 3.3 through EGL ({error}); '
                         'apt install libegl1 libgl1-mesa-dri') from None


class Programs:
    """The compiled shaders: shadow, sky, blur, develop, and one per group of model surfaces."""

    def __init__(self, context: moderngl.Context) -> None:
        def program(vertex: str, fragment: str) -> moderngl.Program:
            return context.program(vertex_shader=vertex, fragment_shader=fragment)

        self._models = {
            sunny: {surface: program(shaders.MODEL_VERTEX,
                                     shaders.model_fragment(surface, sunny, SHADOW_MAP_SIZE))
                    for surface in shaders.SURFACES} for sunny in (False, True)}
        self.shadow = program(shaders.SHADOW_VERTEX, shaders.SHADOW_FRAGMENT)
        self.sky, self.blur, self.develop = (program(shaders.SCREEN_VERTEX, fragment) for fragment in (
            shaders.SKY_FRAGMENT, shaders.BLUR_FRAGMENT, shaders.DEVELOP_FRAGMENT))
        substances = np.column_stack([COLOUR, GLOSS])
        for group in self._models.values():
            for model in group.values():
                write(model, substances=substances.T)
        self.develop['scene'].value, self.develop['halo'].value = 0, 1

    def models(self, sunny: bool) -> dict[str, moderngl.Program]:
        """Programs for models by group of surfaces, with or without shadows of the sun."""
        return self._models[sunny]


def write(program: moderngl.Program, **values: object) -> None:
    """Set the uniforms that the program uses; arrays are matrices [rows, columns]."""
    for name, value in values.items():
        if name in program:
            if isinstance(value, np.ndarray):
                program[name].write(np.ascontiguousarray(value.T, 'f4').tobytes())
            else:
                program[name].value = value


class Model:
    """A mesh in graphics memory, for instanced drawing."""

    def __init__(self, context: moderngl.Context, mesh: Mesh) -> None:
        self._context = context
        rows = np.column_stack([mesh.vertices, mesh.normals, mesh.vertex_material]).astype('f4')
        self._vertices = context.buffer(rows.tobytes())
        self._faces = context.buffer(mesh.faces.astype('i4').tobytes())
        self._instances = context.buffer(reserve=64 * _ROW_BYTES, dynamic=True)
        self._arrays: dict[moderngl.Program, moderngl.VertexArray] = {}

    def draw(self, program: moderngl.Program, rows: np.ndarray) -> None:
        """Draw an instance for every row [N, 16] of :class:`~mpnp_world.sensors.renderer.Instances`."""
        if rows.nbytes > self._instances.size:
            self._instances.orphan(2 * rows.nbytes)
        self._instances.write(np.ascontiguousarray(rows, 'f4').tobytes())
        if program not in self._arrays:
            self._arrays[program] = self._array(program)
        self._arrays[program].render(instances=len(rows))

    def _array(self, program: moderngl.Program) -> moderngl.VertexArray:
        """The vertex array of a program; unused attributes are skipped."""
        def layout(attributes: dict[str, int], suffix: str = '') -> tuple[str, ...]:
            used = [name for name in attributes if name in program]
            parts = [f'{count}f' if name in used else f'{4 * count}x' for name, count in attributes.items()]
            return ' '.join(parts) + suffix, *used

        return self._context.vertex_array(program, [(self._vertices, *layout(_VERTEX)),
                                                    (self._instances, *layout(_INSTANCE, '/i'))], self._faces)

    def release(self) -> None:
        """Free the graphics memory."""
        for thing in (*self._arrays.values(), self._vertices, self._faces, self._instances):
            thing.release()


class ModelCache:
    """Caches all used models and the ground of one scenery."""

    def __init__(self, context: moderngl.Context) -> None:
        self._context = context
        self._models: dict[ModelKey, Model] = {}
        self._ground: tuple[Scenery, Model] | None = None

    def model(self, key: ModelKey) -> Model:
        """The model of a key."""
        if key not in self._models:
            self._models[key] = Model(self._context, model_of(*key))
        return self._models[key]

    def ground(self, scenery: Scenery) -> Model:
        """The ground of a scenery; replaces that of another scenery."""
        if self._ground is None or self._ground[0] is not scenery:
            if self._ground:
                self._ground[1].release()
            self._ground = scenery, Model(self._context, ground_mesh(scenery))
        return self._ground[1]


class Framebuffer:
    """The render targets of one image: linear light with depth, and two small buffers for halos of lamps.

    width, height: of the image, pixels; the target has `supersampling` times as many along both axes.
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
    """A depth texture for shadow mapping and its framebuffer."""
    depth = context.depth_texture((SHADOW_MAP_SIZE, SHADOW_MAP_SIZE))
    depth.compare_func = '<='
    return depth, context.framebuffer(depth_attachment=depth)
