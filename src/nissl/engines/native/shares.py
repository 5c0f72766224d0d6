"""How threads share kernels: in proportion to their speeds, which they measure while they run.

Cores are not alike: some are built to be slower, on others something else runs. With equal shares, all wait for the
slowest at the next barrier. So a thread looks at the clock before and after each of its shares, and publishes its
speed, the work done in a tick, at the end of a step. After the barrier each knows all speeds, and moves its bounds.

The end of a thread's share is where the next one's begins: both compute it by the same operations on the same numbers,
so that no unit is left out or done twice.
"""

from __future__ import annotations

import platform

from llvmlite import ir

from nissl.engines.native.emitter import INDEX, emit_loop, index
from nissl.engines.native.meeting import BOUNDS, FIRST_THREAD, SPEED, WORDS_OF_A_THREAD

NUMBER = ir.DoubleType()
# How far a step moves the bounds to where the latest speeds, which fluctuate, would have them; and how much of the work
# is shared equally all the same, so that each thread has some, by which its speed is measured.
PACE, EQUAL = 1 / 16, 1 / 16
# CPUs whose counter programs may read; it goes on at the same rate on all cores.
CLOCKED = ("x86_64", "amd64", "arm64", "aarch64")


class Shares:
    """Emits, in a function that several threads run, how this thread shares kernels with the others."""

    def __init__(self, builder: ir.IRBuilder, thread: ir.Value, threads: ir.Value, memory: ir.Value) -> None:
        self.builder = builder
        self.thread, self.threads, self.memory = thread, threads, memory
        with builder.goto_entry_block():
            self.bounds = [builder.alloca(NUMBER) for _ in BOUNDS]
            self.work, self.ticks = builder.alloca(NUMBER), builder.alloca(INDEX)  # in this step
            self.turn = builder.alloca(INDEX)  # the place for the next speed
        for bound, place in zip(self.bounds, BOUNDS, strict=True):
            builder.store(builder.load(self.address(thread, index(place)), typ=NUMBER), bound)
        builder.store(index(SPEED[0]), self.turn)
        self.forget()

    def address(self, thread: ir.Value, place: ir.Value) -> ir.Value:
        """Return the address of a place in a thread's part of the memory."""
        builder = self.builder
        start = builder.add(builder.mul(thread, index(WORDS_OF_A_THREAD)), index(FIRST_THREAD))
        return builder.gep(self.memory, [builder.add(start, place)], source_etype=NUMBER)

    def forget(self) -> None:
        """Begin to count work and ticks."""
        self.builder.store(NUMBER(0.0), self.work)
        self.builder.store(index(0), self.ticks)

    def run(self, kernel: ir.Function, table: ir.Value, units: int, seconds: float) -> None:
        """Run the thread's share of a kernel's units, which take some estimated time in all."""
        builder = self.builder
        begin, end = (
            builder.fptosi(builder.fadd(builder.fmul(fraction, NUMBER(units)), NUMBER(0.5)), INDEX)
            for fraction in (builder.load(bound, typ=NUMBER) for bound in self.bounds)
        )
        before = self.clock()
        with builder.if_then(builder.icmp_signed("<", begin, end)):  # no kernel need know of shares without a unit
            builder.call(kernel, [table, begin, end])
        ticks = builder.sub(self.clock(), before)
        builder.store(builder.add(builder.load(self.ticks, typ=INDEX), ticks), self.ticks)
        work = builder.fmul(builder.sitofp(builder.sub(end, begin), NUMBER), NUMBER(seconds / units))
        builder.store(builder.fadd(builder.load(self.work, typ=NUMBER), work), self.work)

    def clock(self) -> ir.Value:
        """Return the time in ticks; where programs cannot read it, 0: then shares stay as they are."""
        if platform.machine().lower() not in CLOCKED:
            return index(0)
        read = self.builder.module.declare_intrinsic("llvm.readcyclecounter", fnty=ir.FunctionType(INDEX, []))
        return self.builder.call(read, [])

    def publish(self) -> None:
        """Tell the thread's speed in this step."""
        builder = self.builder
        ticks = builder.load(self.ticks, typ=INDEX)
        # Counters of different cores may differ, so a thread that was moved may have counted none, or less.
        ticks = builder.select(builder.icmp_signed(">", ticks, index(1)), ticks, index(1))
        speed = builder.fdiv(builder.load(self.work, typ=NUMBER), builder.sitofp(ticks, NUMBER))
        builder.store(speed, self.address(self.thread, builder.load(self.turn, typ=INDEX)))
        self.forget()

    def adjust(self) -> None:
        """Move the thread's bounds, now that all have published their speeds."""
        builder = self.builder
        turn = builder.load(self.turn, typ=INDEX)
        with builder.goto_entry_block():
            below, up_to, total, known = sums = [builder.alloca(NUMBER) for _ in range(4)]  # of speeds
            workers = builder.alloca(NUMBER)
        for place in (*sums, workers):
            builder.store(NUMBER(0.0), place)

        def add(place: ir.Value, number: ir.Value, counts: ir.Value) -> None:
            more = builder.select(counts, number, NUMBER(0.0))
            builder.store(builder.fadd(builder.load(place, typ=NUMBER), more), place)

        def speed_of(other: ir.Value) -> tuple[ir.Value, ir.Value]:
            speed = builder.load(self.address(other, turn), typ=NUMBER)
            return speed, builder.fcmp_ordered(">", speed, NUMBER(0.0))

        def count(other: ir.Value) -> None:
            speed, worked = speed_of(other)
            add(known, speed, worked)
            add(workers, NUMBER(1.0), worked)

        emit_loop(builder, index(0), self.threads, 1, count)
        mean = builder.fdiv(builder.load(known, typ=NUMBER), builder.load(workers, typ=NUMBER))

        def add_all(other: ir.Value) -> None:
            # A thread that had no unit is taken for one of mean speed, so that it gets some again.
            speed, worked = speed_of(other)
            speed = builder.select(worked, speed, mean)
            add(below, speed, builder.icmp_signed("<", other, self.thread))
            add(up_to, speed, builder.icmp_signed("<=", other, self.thread))
            add(total, speed, ir.IntType(1)(1))

        emit_loop(builder, index(0), self.threads, 1, add_all)
        threads, whole = builder.sitofp(self.threads, NUMBER), builder.load(total, typ=NUMBER)
        edges = self.thread, builder.add(self.thread, index(1))
        for bound, place, edge, own in zip(self.bounds, (below, up_to), edges, BOUNDS, strict=True):
            by_speed = builder.fmul(builder.fdiv(builder.load(place, typ=NUMBER), whole), NUMBER(1 - EQUAL))
            equally = builder.fmul(builder.fdiv(builder.sitofp(edge, NUMBER), threads), NUMBER(EQUAL))
            before = builder.load(bound, typ=NUMBER)
            way = builder.fsub(builder.fadd(by_speed, equally), before)
            after = builder.fadd(before, builder.fmul(way, NUMBER(PACE)))
            builder.store(after, bound)
            builder.store(after, self.address(self.thread, index(own)))
        builder.store(builder.sub(index(sum(SPEED)), turn), self.turn)
