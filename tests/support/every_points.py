"""The calls of the flow, by scenario: each meets every fault in test_every_call.py, which says what is missing here."""

ELSEWHERE = {
    "poll._poll queues.get_all": "a read, before anything is begun; Side.poll does it here",
    "lengths.look queues.get_all": "reads for the metrics alone (test_measures.py)",
    "lengths._length queues.get_num_entries": "the same",
}

# By scenario, in the order of their first time. "-": not of the flow.
POINTS = {
    "a task is launched": """
        - auth.login
        - GET configmaps
        - POST configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served._find_pending_queue queues.create
        served._variant_problem POST jobs (dry run)
        - queues.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "three tasks and a limit of two": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "tasks that ask for GPUs": """
        - queues.get_all
        needs.look tasks.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "a task that asks for more at the last moment": """
        - queues.get_all
        needs.look tasks.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        returning._delete_mark tasks.delete_hyper_params
    """,
    "the queue is made first": """
        - auth.login
        - GET configmaps
        - POST configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served._find_pending_queue queues.create
        served.refresh queues.create
        served._variant_problem POST jobs (dry run)
    """,
    "aborted while it is put back": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        returning._waiting tasks.get_all
        returning._give_back queues.add_task
        returning.give_back queues.remove_task
        returning._hide queues.remove_task
        returning.unmark PATCH configmaps
        returning._delete_mark tasks.delete_hyper_params
        returning._to_front queues.move_task_to_front
        tell.flush events.add_batch
    """,
    "a Job that Kubernetes refuses": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        served._variant_problem POST jobs (dry run)
        returning._wanted tasks.get_all
        returning.fail tasks.failed
        returning._hide queues.remove_task
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "a quota of one Job": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        returning._waiting tasks.get_all
        returning._give_back queues.add_task
        returning._hide queues.remove_task
        returning.unmark PATCH configmaps
        returning._delete_mark tasks.delete_hyper_params
        returning._to_front queues.move_task_to_front
        tell.flush events.add_batch
    """,
    "another controller has our worker id": """
        clash.found workers.get_all
        clash.found tasks.get_all
    """,
    "an entry beside its Job": """
        - queues.get_all
        claim.claim tasks.get_all
        claim._clean queues.remove_task
    """,
    "another controller has marked it": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        returning._delete_mark tasks.delete_hyper_params
    """,
    "its mark, and no room": """
        recover._tidy queues.get_all
        recover._tidy tasks.get_all
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        launch._find GET jobs
        returning._hide queues.remove_task
        returning._delete_mark tasks.delete_hyper_params
        - queues.get_all
    """,
    "recorded, its entry there, and no room": """
        - auth.login
        - GET configmaps
        - PATCH configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served._variant_problem POST jobs (dry run)
        recover._tidy queues.get_all
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        - queues.get_all
        book.flush PATCH configmaps
    """,
    "put back and still shown": """
        recover._tidy queues.get_all
        recover._tidy tasks.get_all
        recover._tidy queues.remove_task
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
    """,
    "a plain agent is faster": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
    """,
    "recorded and not taken": """
        - auth.login
        - GET configmaps
        - PATCH configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served._variant_problem POST jobs (dry run)
        recover._tidy queues.get_all
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        - queues.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "taken and without a Job": """
        - auth.login
        - GET configmaps
        - PATCH configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served._variant_problem POST jobs (dry run)
        recover._tidy queues.get_all
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        launch.launch POST jobs
        - queues.get_all
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "a Job that nobody saw": """
        - auth.login
        - GET configmaps
        - PATCH configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served._variant_problem POST jobs (dry run)
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        launch.launch POST jobs
        launch._find GET jobs
        book.flush PATCH configmaps
    """,
    "a Job that is seen late, and the end": """
        - auth.login
        - GET configmaps
        - PATCH configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served._variant_problem POST jobs (dry run)
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        book.flush PATCH configmaps
    """,
    "a task in no queue": """
        recover._tidy queues.get_all
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
        elsewhere.entries queues.get_all
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        launch.launch POST jobs
        - queues.get_all
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "two tasks in no queue and a limit of one": """
        recover._tidy queues.get_all
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
        elsewhere.entries queues.get_all
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        launch.launch POST jobs
        - queues.get_all
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "taken from a queue that is not served any more": """
        - auth.login
        - GET configmaps
        - PATCH configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served._variant_problem POST jobs (dry run)
        recover._tidy queues.get_all
        recover._tidy tasks.get_all
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        launch._find GET jobs
        returning._waiting tasks.get_all
        returning._give_back queues.add_task
        returning._hide queues.remove_task
        returning._delete_mark tasks.delete_hyper_params
        book.erase PATCH configmaps
        returning._to_front queues.move_task_to_front
        - queues.get_all
        tell.flush events.add_batch
    """,
    "an ended task in the pending queue": """
        recover._tidy queues.get_all
        recover._tidy tasks.get_all
        recover._tidy queues.remove_task
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
    """,
    "told to end before the record": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        returning._delete_mark tasks.delete_hyper_params
        book.flush PATCH configmaps
    """,
    "told to end at the first take": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        launch.launch POST jobs
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "uninstalled with the tasks taken": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        served._variant_problem POST jobs (dry run)
        returning._waiting tasks.get_all
        returning._give_back queues.add_task
        returning._delete_mark tasks.delete_hyper_params
        returning._hide queues.remove_task
        returning._to_front queues.move_task_to_front
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "out of memory": """
        reads.refresh tasks.get_all
        reads._serve tasks.get_all
        ends.fail tasks.failed
        explain._events GET events
        explain.ended GET pods
        explain._last_lines GET pods (log)
        ends.delete DELETE jobs
        tell.flush events.add_batch
    """,
    "completed": """
        reads.refresh tasks.get_all
        reads._serve tasks.get_all
        ends.delete DELETE jobs
    """,
    "aborted by its user": """
        reads.refresh tasks.get_all
        reads._serve tasks.get_all
        ends.delete DELETE jobs
        tell.flush events.add_batch
    """,
    "deleted by its user": """
        reads.refresh tasks.get_all
        presence._look queues.get_all
        reads._serve tasks.get_all
        ends.delete DELETE jobs
    """,
    "deleted with its queue": """
        reads.refresh tasks.get_all
        presence._look queues.get_all
        presence._look tasks.get_all
        reads._serve tasks.get_all
        ends.delete DELETE jobs
    """,
    "evicted, to be put back": """
        reads.refresh tasks.get_all
        reads._serve tasks.get_all
        requeue._unchanged tasks.get_all
        requeue.requeue tasks.edit_hyper_params
        requeue.requeue tasks.failed
        requeue._enqueue tasks.enqueue
        requeue._finish queues.move_task_to_front
        requeue._finish tasks.get_all
        requeue._finish tasks.edit_hyper_params
        ends.delete DELETE jobs
        tell.flush events.add_batch
    """,
    "evicted by Kueue before it began": """
        reads.refresh tasks.get_all
        reads._serve tasks.get_all
        requeue._unchanged tasks.get_all
        requeue._enqueue tasks.enqueue
        requeue._finish queues.move_task_to_front
        ends.delete DELETE jobs
        tell.flush events.add_batch
    """,
    "its pod was deleted": """
        reads.refresh tasks.get_all
        reads._serve tasks.get_all
        explain._correct tasks.update
        ends.delete DELETE jobs
        tell.flush events.add_batch
    """,
    "its image cannot be pulled": """
        reads.refresh tasks.get_all
        explain._say_waiting tasks.update
        reads._serve tasks.get_all
        ends.fail tasks.failed
        explain._events GET events
        ends.hide queues.remove_task
        ends.delete DELETE jobs
        tell.flush events.add_batch
    """,
    "no node takes its pod": """
        reads.refresh tasks.get_all
        happenings.read GET events
        explain._say_waiting tasks.update
        tell.flush events.add_batch
    """,
    "an old pod out of memory": """
        adopt.look tasks.get_all
        adopt._shown queues.get_all
        ends.fail tasks.failed
        explain._events GET events
        explain.ended GET pods
        explain._last_lines GET pods (log)
        adopt._delete DELETE pods
        tell.flush events.add_batch
    """,
    "an old pod that cannot begin": """
        adopt.look tasks.get_all
        adopt._shown queues.get_all
        ends.fail tasks.failed
        explain._events GET events
        ends.hide queues.remove_task
        adopt._delete DELETE pods
        tell.flush events.add_batch
    """,
    "a session gets its Service": """
        session_services._list GET services
        session_services._create POST services
        sessions._tell_all tasks.get_all
        sessions._tell tasks.edit_hyper_params
        tell.flush events.add_batch
    """,
    "a session's Service is there already": """
        session_services._list GET services
        session_services._create POST services
        session_services._existing GET services
        sessions._tell_all tasks.get_all
        sessions._tell tasks.edit_hyper_params
        tell.flush events.add_batch
    """,
    "commands before and after a Job is made": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        commands._owe PATCH configmaps
        commands._run a command
        launch.launch POST jobs
        book.flush PATCH configmaps
        tell.flush events.add_batch
        commands.write PATCH configmaps
    """,
    "a command when a pod is gone": """
        reads.refresh tasks.get_all
        reads._serve tasks.get_all
        ends.delete DELETE jobs
        commands._stays GET jobs
        commands._stays GET pods
        commands._run a command
        commands.write PATCH configmaps
    """,
    "enqueued again with a command owed": """
        reads.refresh tasks.get_all
        reads._serve tasks.get_all
        ends.delete DELETE jobs
        commands._stays GET jobs
        commands._stays GET pods
        commands._run a command
        commands.write PATCH configmaps
        - queues.get_all
        claim.claim tasks.get_all
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        commands._owe PATCH configmaps
        launch.launch POST jobs
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "a task that runs as its owner": """
        - queues.get_all
        claim.claim tasks.get_all
        owner_tokens.refusal auth.login
        marking._mark tasks.edit_hyper_params
        marking._read tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "its owner's token is waited for": """
        reads.refresh tasks.get_all
        owner_tokens.give auth.login
        owner_tokens.give POST secrets
        happenings.read GET events
        explain._say_waiting tasks.update
        tell.flush events.add_batch
    """,
    "its owner's token is there already": """
        reads.refresh tasks.get_all
        owner_tokens.give auth.login
        owner_tokens.give POST secrets
        happenings.read GET events
        explain._say_waiting tasks.update
        tell.flush events.add_batch
    """,
    "a task's pods are given back": """
        reads.refresh tasks.get_all
        explain._say_waiting tasks.update
        happenings.read GET events
        reads._serve tasks.get_all
        requeue._unchanged tasks.get_all
        requeue.requeue tasks.edit_hyper_params
        requeue._enqueue tasks.enqueue
        requeue._finish queues.move_task_to_front
        requeue._finish tasks.get_all
        requeue._finish tasks.edit_hyper_params
        ends.delete DELETE jobs
        tell.flush events.add_batch
    """,
    "a task's pods get their Service": """
        ranks._list GET services
        ranks._create POST services
    """,
    "a task's pods have their Service already": """
        ranks._list GET services
        ranks._create POST services
        ranks._create GET services
    """,
}
