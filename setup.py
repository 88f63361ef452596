"""pip build of mpnp_ros for machines without a ROS distribution: runs the CMakeLists.txt that colcon uses.

A colcon workspace never executes this file: package.xml says build_type ament_cmake.
"""
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

NAME = 'mpnp_ros'
PACKAGES = (NAME, 'mpnp_world')
HERE = Path(__file__).resolve().parent
SITE = f'lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages'
EXECUTABLES = dict(re.findall(r'^([a-z]\w*)\s*=\s*(\S+)$',
                              (HERE / 'resource/executables.txt').read_text(), re.M))
EXECUTABLES |= {f'{sensor}_encoder': f'mpnp_ros.nodes.executables:{sensor}_encoder'
                for sensor in sorted(file.parent.name for file in HERE.glob('mpnp_ros/modalities/*/node.py'))}
MANIFEST = ElementTree.parse(HERE / 'package.xml').getroot()


def ros_prefixes() -> str:
    """Prefixes (the virtual environment and, under build isolation, pip's overlay) that hold ros-* wheels."""
    if os.environ.get('AMENT_PREFIX_PATH'):
        return os.environ['AMENT_PREFIX_PATH']
    import rosidl_cmake
    return str(Path(rosidl_cmake.__file__).resolve().parents[4])


def cmake_stage(build: Path) -> Path:
    """Configure, build and install into a staging folder; return that folder."""
    stage = build / 'stage'
    shutil.rmtree(stage, ignore_errors=True)
    prefixes = ros_prefixes()
    env = dict(os.environ, AMENT_PREFIX_PATH=prefixes, CMAKE_PREFIX_PATH=prefixes)
    # Fast DDS is the only middleware there is as a wheel; introspection_c registers its dynamic types.
    env.setdefault('STATIC_ROSIDL_TYPESUPPORT_CPP', 'rosidl_typesupport_fastrtps_cpp')
    cmake = shutil.which('cmake') or sys.exit('cmake is needed to build the messages: pip install cmake')
    generator = ['-G', 'Ninja'] if shutil.which('ninja') else []

    def run(*arguments: object) -> None:
        command = [cmake, *map(str, arguments)]
        if subprocess.run(command, env=env).returncode:  # an exception would be swallowed by `pip install -e`
            sys.exit(f'building the mpnp_ros messages failed: {" ".join(command)}')

    run('-S', HERE, '-B', build / 'cmake', *generator, '-DBUILD_TESTING=OFF', '-DCMAKE_BUILD_TYPE=Release',
        f'-DPython3_EXECUTABLE={sys.executable}', '-DPYTHON_INSTALL_DIR=python',
        f'-DCMAKE_INSTALL_PREFIX={stage}')
    run('--build', build / 'cmake', '--parallel', os.cpu_count() or 2)
    run('--install', build / 'cmake')
    return stage


class BuildWithInterfaces(build_py):
    """build_py, and beside it the generated message modules and the share folder."""

    def run(self) -> None:
        super().run()
        build = Path(self.get_finalized_command('build').build_base).resolve()
        build /= f'ros-{sys.implementation.cache_tag}'
        build.mkdir(parents=True, exist_ok=True)
        stage = cmake_stage(build)
        data: dict[str, list[str]] = {}
        for file in sorted(p for p in stage.rglob('*') if p.is_file()):
            relative = file.relative_to(stage)
            if {'__pycache__', 'cmake'} & set(relative.parts) or relative.parts[0] == 'include':
                continue
            if relative.parts[0] == 'python':
                self._add_module(file, Path(*relative.parts[1:]), data)
            else:
                data.setdefault(str(relative.parent), []).append(str(file))
        self.distribution.data_files = list(data.items())

    def _add_module(self, file: Path, relative: Path, data: dict[str, list[str]]) -> None:
        hand_written = (HERE / relative).exists()
        if relative.parts[0] != NAME or hand_written or relative.suffix == '.c':
            return
        if self.editable_mode:  # beside the source checkout, found by extend_path
            data.setdefault(str(Path(SITE, relative.parent)), []).append(str(file))
            return
        target = Path(self.build_lib, relative)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)


class BinaryDistribution(Distribution):
    """A distribution with compiled message modules."""

    def has_ext_modules(self) -> bool:
        return True

    def has_data(self) -> bool:  # setuptools' editable_wheel asks for this name before it runs install_data
        return bool(self.data_files)


setup(
    name=NAME,
    version=MANIFEST.findtext('version'),
    license=MANIFEST.findtext('license'),
    author=MANIFEST.findtext('author'),
    maintainer=MANIFEST.findtext('maintainer'),
    maintainer_email=MANIFEST.find('maintainer').get('email'),
    packages=find_packages(include=[package for name in PACKAGES for package in (name, f'{name}.*')]),
    package_data={NAME: ['data/*.yaml', 'data/classes/*.yaml', 'data/heads/*/*', 'data/links/*/*/*/*'],
                  'mpnp_world': ['models/*.npz', 'models/*.NOTICE']},
    package_dir={'': '.'},  # makes `pip install -e` use a plain .pth, which extend_path can follow
    cmdclass={'build_py': BuildWithInterfaces},
    distclass=BinaryDistribution,
    python_requires='>=3.10',
    install_requires=['numpy', 'pillow', 'pyyaml', 'safetensors', 'scipy>=1.12', 'tqdm', 'rich', 'matplotlib',
                      'rosbags', 'transformers'],
    entry_points={'console_scripts': [
        f'{name if name == "mpnp" else f"mpnp_{name}"} = {target}' for name, target in EXECUTABLES.items()]},
    zip_safe=False,
)
