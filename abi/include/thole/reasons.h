/* thole/reasons.h: every reason that a thole_status can carry, in one table.
 *
 * X(name, code, meaning, remedy). docs/reference/reasons.md is made from it. A released reason keeps name and meaning;
 * new ones are added to their group. The rows have no numbers: they may stand in any order.
 */
#ifndef THOLE_REASONS_H
#define THOLE_REASONS_H

#include <thole/base.h>

/* clang-format off */
#define THOLE_REASONS(X) \
  /* any call */ \
  X(ArgumentMissing, THOLE_INVALID, "A pointer that must not be NULL is NULL, or a struct_size is too small.", "Pass it; set struct_size to sizeof.") \
  X(ArgumentBad, THOLE_INVALID, "An argument has a value that is not allowed.", "See the sentence.") \
  X(TextNotUtf8, THOLE_INVALID, "A text is not UTF-8.", "Encode it as UTF-8.") \
  X(OverBound, THOLE_INVALID, "A stated bound is exceeded.", "The sentence names the bound.") \
  X(BufferTooSmall, THOLE_TOO_SMALL, "The caller's buffer is too small.", "Lend thole_buffer.used bytes and call again.") \
  X(HandleStale, THOLE_STALE, "The handle is closed, of another kind or of another process.", "Open it again.") \
  X(Forked, THOLE_FORKED, "The process was forked after the core was opened.", "Open a core in this process.") \
  X(HandlesOut, THOLE_EXHAUSTED, "As many handles of one kind are open as a process may have.", "End or close some.") \
  X(OutOfMemory, THOLE_EXHAUSTED, "Memory is out.", "Free some, and call again.") \
  X(Defect, THOLE_INTERNAL, "A defect in Thole.", "Report it with the sentence.") \
  X(AbiUnsupported, THOLE_UNSUPPORTED, "The library does not have the version of the contract that is asked for.", "Install a library as new as the headers.") \
  X(ServiceMissing, THOLE_UNSUPPORTED, "This build does not have the service.", "Use a build that has it.") \
  X(SystemCallFailed, THOLE_UNAVAILABLE, "The operating system refused something.", "os_errno and the sentence say what.") \
  /* state */ \
  X(StateNotPrivate, THOLE_DENIED, "Others than its owner may write to the state folder.", "chmod 700 it.") \
  X(StateNewer, THOLE_UNSUPPORTED, "A newer Thole wrote this state.", "Use that version, or another state folder.") \
  X(StateUnwritable, THOLE_DENIED, "The state folder cannot be made or written.", "Choose another folder.") \
  X(StateBusy, THOLE_TIMEOUT, "Another process has held the state's lock for 30 s.", "End that process, or wait for it, and call again.") \
  X(JournalDamaged, THOLE_DATA_LOSS, "A record of the journal, not the last, does not match its checksum.", "Keep a copy and start with a new state folder.") \
  /* gang */ \
  X(NodeBad, THOLE_INVALID, "A node or a device is described wrongly.", "See the sentence.") \
  X(LevelsDiffer, THOLE_REFUSED, "Other topology levels are in use.", "Name the same levels.") \
  X(RequestBad, THOLE_INVALID, "The gang request contradicts itself.", "See the sentence.") \
  X(PlanBad, THOLE_INVALID, "The plan does not satisfy the request.", "Plan again.") \
  X(PlanStale, THOLE_CONFLICT, "Something has taken a place of the plan.", "Plan again.") \
  X(GangExists, THOLE_EXISTS, "The gang holds other placements already.", "Release it, or use another id.") \
  X(GangUnknown, THOLE_NOT_FOUND, "No such gang holds anything.", "Reserve first; a reservation may have expired.") \
  X(GangConfirmed, THOLE_REFUSED, "The gang is confirmed.", "Use release.") \
  X(GangNoFitInCluster, THOLE_NO_FIT, "The free devices of the whole cluster do not hold the gang.", "Wait, ask for fewer or smaller members, or add nodes.") \
  X(GangNoFitInDomain, THOLE_NO_FIT, "No single domain of the required level holds the gang.", "Wait, ask for a wider level, or make it preferred.") \
  X(GangLargerThanPool, THOLE_NO_FIT, "The gang would not fit even if nothing else ran.", "Ask for fewer or smaller members.") \
  X(DeviceTooSmall, THOLE_NO_FIT, "No GPU is as large as a member asks for.", "The sentence says what would fit.") \
  X(NoSuchLabel, THOLE_NO_FIT, "No node that could take it has that label.", "The sentence names the label.") \
  X(NoSuchModel, THOLE_NO_FIT, "No node has a GPU of that model.", "The sentence lists the models.") \
  X(NoMig, THOLE_NO_FIT, "No GPU offers that MIG profile.", "Ask for vGPUs, or enable MIG on the node.") \
  X(NodeTooSmall, THOLE_NO_FIT, "No node has the CPU, memory or number of GPUs that a member asks for.", "Ask for less.") \
  X(GangSearchBound, THOLE_EXHAUSTED, "Neither a place nor a proof that there is none was found within the bound.", "Use fewer different roles.") \
  /* checkpoint */ \
  X(KeyMissing, THOLE_NOT_FOUND, "The key file is not there.", "Make one with `thole key new`, or correct its path.") \
  X(KeyBad, THOLE_INVALID, "The key file is not a Thole key.", "Make one with `thole key new`.") \
  X(KeyNotPrivate, THOLE_DENIED, "Others may read the key file.", "chmod 600 it, and think about a new key.") \
  X(KeyWrong, THOLE_DENIED, "The key does not open this store.", "Use the key with which it was written.") \
  X(KeyHelperFailed, THOLE_UNAVAILABLE, "The key's helper program failed.", "The sentence has what it said.") \
  X(KeyExists, THOLE_EXISTS, "There is a file of that name already.", "Choose another name; keys are never overwritten.") \
  X(StoreReadOnly, THOLE_DENIED, "The store cannot be written.", "Mount it writable, or name another store.") \
  X(StoreFull, THOLE_EXHAUSTED, "The store is full.", "Free space; the newest checkpoint is untouched.") \
  X(StoreGone, THOLE_UNAVAILABLE, "The store's folder is not there.", "Mount it, or correct its path.") \
  X(AttemptFenced, THOLE_FENCED, "A newer attempt of this run has begun.", "End this process; its work is being redone.") \
  X(PartExists, THOLE_EXISTS, "This attempt has sealed that part of that step.", "Save each step once.") \
  X(StepPast, THOLE_REFUSED, "This attempt has committed a later step.", "Save a later step, or go back in a new attempt.") \
  X(PartsDisagree, THOLE_REFUSED, "The parts do not make one checkpoint.", "The sentence names the item and the parts.") \
  X(PartMissing, THOLE_DATA_LOSS, "A part is not there.", "If all ranks have ended, the checkpoint will never be complete.") \
  X(WriterBroken, THOLE_REFUSED, "An earlier put of this writer failed.", "Close it and begin again.") \
  X(WriterSealed, THOLE_REFUSED, "The writer is sealed.", "Begin another for the next step.") \
  X(ItemBad, THOLE_INVALID, "An item's name, dtype, shape, box or length is wrong.", "See the sentence.") \
  X(ItemUnknown, THOLE_NOT_FOUND, "The checkpoint has no such tensor.", "The sentence has the nearest name.") \
  X(BoxUnsupported, THOLE_UNSUPPORTED, "This version reads whole rows of a tensor only.", "Ask for whole rows, and cut them.") \
  X(CheckpointNone, THOLE_NOT_FOUND, "There is no committed checkpoint.", "Start from the beginning.") \
  X(CheckpointDamaged, THOLE_DATA_LOSS, "Stored bytes are damaged or forged.", "The sentence names file and place; restore an older step.") \
  X(CheckpointRolledBack, THOLE_DATA_LOSS, "The store is older than the anchor remembers.", "Bring the store back, or delete the anchor if the loss is accepted.") \
  X(CheckpointNewer, THOLE_UNSUPPORTED, "A newer Thole wrote it.", "Use that version.") \
  /* plugins */ \
  X(PluginFolderMissing, THOLE_NOT_FOUND, "There is no such plugin folder.", "Correct its path.") \
  X(PluginFolderNotPrivate, THOLE_DENIED, "Others than its owner may write to the plugin folder.", "chmod go-w it and its parents.") \
  X(PluginManifestBad, THOLE_INVALID, "The manifest cannot be read.", "See the sentence.") \
  X(PluginLibraryMissing, THOLE_NOT_FOUND, "The library that the manifest names is not there.", "Install it beside the manifest.") \
  X(PluginNotPrivate, THOLE_DENIED, "Others than its owner may write to the manifest or the library.", "chmod go-w them.") \
  X(PluginDigestWrong, THOLE_DENIED, "The library is not the one that the manifest names.", "Install it again.") \
  X(PluginNotElf, THOLE_INVALID, "The library is not an ELF shared object.", "Install it again.") \
  X(PluginOtherMachine, THOLE_UNSUPPORTED, "The library is for another architecture.", "Install the one for this machine.") \
  X(PluginSymbolMissing, THOLE_INVALID, "The library does not export thole_plugin_entry_v1.", "Export it.") \
  X(PluginSymbolExtra, THOLE_DENIED, "The library exports more than its entry.", "Hide the rest with a version script.") \
  X(PluginOwnUnwinder, THOLE_DENIED, "The library carries an unwinder of its own: an exception in it would abort.", "Link libgcc_s shared.") \
  X(PluginStaticTls, THOLE_DENIED, "The library wants static TLS.", "Build it with -ftls-model=global-dynamic.") \
  X(PluginExecutableStack, THOLE_DENIED, "The library would make the process's stacks executable.", "Link it with -z noexecstack.") \
  X(PluginSearchPath, THOLE_DENIED, "The library brings a search path along, whose files its digest does not cover.", "Link it without -rpath.") \
  X(PluginAbiOlder, THOLE_UNSUPPORTED, "The plugin was built for an older version of the contract.", "Build it again.") \
  X(PluginAbiNewer, THOLE_UNSUPPORTED, "The plugin was built for a newer version of the contract.", "Install a newer Thole.") \
  X(PluginLoadFailed, THOLE_UNAVAILABLE, "The dynamic linker refuses the library.", "The sentence has its words.") \
  X(PluginRefusedItself, THOLE_UNSUPPORTED, "The plugin's entry answered NULL.", "The sentence has its words.") \
  X(PluginBadAnswer, THOLE_INTERNAL, "The plugin's answer breaks the contract.", "Report it to its author.") \
  X(PluginThrew, THOLE_INTERNAL, "The plugin let an exception out.", "Report it to its author.") \
  X(PluginStopTimeout, THOLE_TIMEOUT, "The plugin did not stop in time; it is left alone.", "Report it to its author.") \
  X(PluginNotLoaded, THOLE_NOT_FOUND, "No such plugin is loaded.", "`thole plugin ls` lists them.") \
  X(PluginExists, THOLE_EXISTS, "A plugin of that id is loaded already.", "Remove one of the two manifests.") \
  X(PluginOptionsBad, THOLE_INVALID, "The plugin does not understand its options.", "See the sentence.") \
  X(PluginGone, THOLE_GONE, "The plugin is stopped.", "Open a new core.") \
  X(NoDriver, THOLE_UNAVAILABLE, "There is no GPU driver on this machine.", "Install it, or name a pool with `simulated: true`.") \
  X(DriverFailed, THOLE_UNAVAILABLE, "The GPU driver answered with an error.", "device_code and the sentence say which.") \
  /* job and pool files */ \
  X(FileEmpty, THOLE_INVALID, "The file is empty.", "`thole init` writes one to start from.") \
  X(FileNotYaml, THOLE_INVALID, "The text is not YAML.", "See line and column.") \
  X(FileManyDocuments, THOLE_INVALID, "The file holds more than one document.", "Keep one document in a file.") \
  X(YamlRefused, THOLE_INVALID, "The YAML uses something that is refused: aliases, anchors, tags, or too much size or depth.", "Write it out plainly.") \
  X(KeyDuplicate, THOLE_INVALID, "A key stands twice in one mapping.", "Remove one.") \
  X(FieldUnknown, THOLE_INVALID, "There is no such field.", "The sentence has the nearest word.") \
  X(FieldMissing, THOLE_INVALID, "A field that must be there is missing.", "Add it.") \
  X(FieldWrongType, THOLE_INVALID, "A field has another type than it must have.", "The sentence says what is expected.") \
  X(FieldBad, THOLE_INVALID, "A field has a value that is not allowed.", "The sentence says what is.") \
  X(UnitBad, THOLE_INVALID, "A size or a time has no unit, or one that is not known.", "Write for example 10Gi or 30s.") \
  X(NameBad, THOLE_INVALID, "A name is not legal.", "Lower-case letters, digits and '-', at most 52 characters, as Kubernetes has it.") \
  X(KindUnknown, THOLE_INVALID, "apiVersion and kind name nothing that is known.", "apiVersion: thole.dev/v1alpha1, kind: TrainingJob or NodePool.") \
  X(RolesContradict, THOLE_INVALID, "Fields of a role contradict each other.", "See the sentence.") \
  X(TopologyUnknown, THOLE_INVALID, "The topology names a level that the pool does not have.", "The sentence lists them.") \
  X(PoolDoesNotFit, THOLE_INVALID, "The pool's vGPUs do not fit its GPUs.", "The sentence says what would fit.") \
  X(NativeOverrides, THOLE_INVALID, "A platform's native block overrides what is Thole's.", "Set the field of the job instead.") \
  X(Converted, THOLE_OK, "An older or other form was read and converted.", "Write the new form; the sentence shows it.") \
  X(Ignored, THOLE_OK, "A field has no effect on this platform.", "Nothing, or remove it.") \
  /* metrics, partition, recovery */ \
  X(MetricBad, THOLE_INVALID, "A family's or label's name is not legal.", "See the sentence.") \
  X(MetricDiffers, THOLE_EXISTS, "The family is defined otherwise already.", "Use another name.") \
  X(MetricsFileBad, THOLE_DATA_LOSS, "The file is not a metrics file, or damaged.", "Remove it.") \
  X(MetricsFull, THOLE_EXHAUSTED, "A bound of families, or of a metrics file's size, is reached.", "Define fewer families, or fewer series in each.") \
  X(MetricsFileMissing, THOLE_NOT_FOUND, "There is no such metrics file.", "The process has not made it yet, or it was removed.") \
  X(MetricsFileTaken, THOLE_EXISTS, "Another living process writes its metrics to this file.", "Give each process a file of its own.") \
  X(RecordDamaged, THOLE_DATA_LOSS, "The allocation record is damaged.", "Let the node write it again.") \
  X(RecordNewer, THOLE_UNSUPPORTED, "A newer Thole wrote the allocation record.", "Use that version on this node.") \
  X(MigInstanceMissing, THOLE_UNSUPPORTED, "The placement names a MIG instance that was not made; this build makes none.", "Make the instance, and name it by its own UUID.") \
  X(HistoryBad, THOLE_INVALID, "The incident history is empty or out of order.", "Pass the job's whole history, oldest first.") \
  X(RestartAfterIncident, THOLE_OK, "The job is started again from its newest checkpoint.", "Nothing.") \
  X(StopSameCause, THOLE_OK, "The same failure came again without progress in between.", "Correct the program; the incident has its last lines.") \
  X(StopNoProgress, THOLE_OK, "Too many incidents in a row without progress.", "Look at the incidents of `thole status`.") \
  X(StopIncidentLimit, THOLE_OK, "The job has had as many incidents as it may have.", "Raise recovery.maxIncidents if they were the machine's fault.") \
  X(StopCannotStart, THOLE_OK, "The command cannot be started, and will not be startable by itself.", "Correct command, workdir or permissions.") \
  /* the local platform */ \
  X(JobExists, THOLE_EXISTS, "A job of that name is running.", "Cancel it, wait, or use another name.") \
  X(JobInterrupted, THOLE_EXISTS, "The job's controller was killed, and nobody has said what is to become of the job.", "`thole resume` goes on, `thole cancel` ends it.") \
  X(JobUnknown, THOLE_NOT_FOUND, "There is no such job.", "`thole status` lists them.") \
  X(GpuHeldByOther, THOLE_UNAVAILABLE, "Another user's Thole on this machine holds the GPU.", "Wait for it; `thole explain` says more.") \
  X(CommandNotFound, THOLE_NOT_FOUND, "The job's command is not there.", "Correct command or PATH.") \
  X(CommandNotExecutable, THOLE_DENIED, "The job's command is not executable.", "chmod +x it, or start it through its interpreter.")
/* clang-format on */

#endif
