
@RUN_ON@    let mut cx = context(cpu, memory);
@COPIES@@CALLS@    @RESULT@
}
