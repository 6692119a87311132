select
    unlisted_purchase_count,
    purchase_count
from {{ ref('int_data_measured') }}
where unlisted_purchase_count > {{ var('max_unlisted_share') }} * purchase_count
