<?php
usleep((int) (1000000 * (float) (getenv('ANSWER_SECONDS') ?: 0.03)));
echo 'pid ', getmypid(), "\n";
